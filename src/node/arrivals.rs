//! Readers on their way to the driver: a list that everybody adds to, and one word for all of them.
//!
//! Only who finds the list empty tells the driver. While a question is under way nobody wakes it
//! for one more reader, and when it puts the next one it takes them all; so many readers cost it
//! hardly more than one.
//!
//! - Whoever is in the list when a question is put came before it, and may share it.
//! - The list ends with the driver; who comes later is told so.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::error::Error;
use crate::limits;

/// Where a reader waits until it may look.
pub(super) type Reader = oneshot::Sender<Result<(), Error>>;

#[derive(Clone, Debug)]
pub(super) struct Arrivals {
    /// `None` once nobody takes them any more.
    readers: Arc<Mutex<Option<Vec<Reader>>>>,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self { readers: Arc::new(Mutex::new(Some(Vec::new()))) }
    }
}

impl Arrivals {
    /// Adds a reader; whether the driver must be told that somebody reads.
    pub fn come(&self, reader: Reader) -> Result<bool, Error> {
        let mut readers = self.readers.lock();
        let readers = readers.as_mut().ok_or(Error::Stopped)?;
        if readers.len() >= limits::DRIVER_INBOX_MAX {
            return Err(Error::RequestTooManyRequests);
        }
        readers.push(reader);
        Ok(readers.len() == 1)
    }

    /// Takes all who came, behind others.
    pub fn take_into(&self, others: &mut Vec<Reader>) {
        if let Some(readers) = self.readers.lock().as_mut() {
            others.append(readers);
        }
    }

    /// Lets go of all who came, and of those to come.
    pub fn close(&self) {
        self.readers.lock().take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_for_all() {
        let (arrivals, mut taken) = (Arrivals::default(), Vec::new());
        let reader = || oneshot::channel().0;
        assert_eq!(arrivals.come(reader()), Ok(true));
        assert_eq!(arrivals.come(reader()), Ok(false));
        arrivals.take_into(&mut taken);
        assert_eq!(taken.len(), 2);
        for n in 0..limits::DRIVER_INBOX_MAX {
            assert_eq!(arrivals.come(reader()), Ok(n == 0));
        }
        assert_eq!(arrivals.come(reader()), Err(Error::RequestTooManyRequests));
        let (reader, mut waiting) = oneshot::channel();
        arrivals.take_into(&mut taken);
        assert_eq!(arrivals.come(reader), Ok(true));
        arrivals.close();
        assert_eq!(waiting.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        assert_eq!(arrivals.come(oneshot::channel().0), Err(Error::Stopped));
    }
}
