//! Readers on their way to the driver: a list that everybody adds to, and one word for all of them.
//!
//! Only who finds the list empty tells the driver. While a question is under way nobody wakes it
//! for one more reader, and when it puts the next one it takes them all; so many readers cost it
//! hardly more than one.
//!
//! - Whoever is in the list when a question is put came before it, and may share it.
//! - The list ends with the driver; who comes later is told so.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::clock;
use crate::error::Error;
use crate::limits;

/// Where a reader waits until it may look.
pub(super) type Reader = oneshot::Sender<Result<(), Error>>;

#[derive(Clone, Debug)]
pub(super) struct Arrivals {
    /// `None` once nobody takes them any more.
    readers: Arc<Mutex<Option<Waiting>>>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// When the first one came.
    since: Option<Instant>,
    readers: Vec<Reader>,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self { readers: Arc::new(Mutex::new(Some(Waiting::default()))) }
    }
}

impl Arrivals {
    /// Adds a reader; whether the driver must be told that somebody reads.
    pub fn come(&self, reader: Reader) -> Result<bool, Error> {
        let mut waiting = self.readers.lock();
        let Waiting { since, readers } = waiting.as_mut().ok_or(Error::Stopped)?;
        if readers.len() >= limits::DRIVER_INBOX_MAX {
            return Err(Error::RequestTooManyRequests);
        }
        since.get_or_insert_with(clock::now);
        readers.push(reader);
        Ok(readers.len() == 1)
    }

    /// Takes all who came, behind others; when the first one did.
    pub fn take_into(&self, others: &mut Vec<Reader>) -> Option<Instant> {
        let mut waiting = self.readers.lock();
        let Waiting { since, readers } = waiting.as_mut()?;
        others.append(readers);
        since.take()
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
