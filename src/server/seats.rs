//! Seats: how many connections may be open at once, by the descriptors this process may have.
//!
//! A connection takes a descriptor, and so does a segment of the log. Clients that take the last
//! one would stop the member at its next segment; so they wait in the kernel's queue instead.
//!
//! Who watches over the member has few seats, apart from clients, and must find one whoever else
//! sits there: for a newcomer the one goes that has sat the longest. A probe needs milliseconds.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::StartError;
use crate::limits;

/// So many seats, shared by listeners.
#[derive(Debug)]
pub(super) struct Seats {
    free: Arc<Semaphore>,
    /// Who sits, the longest first, if they are to make room.
    seated: Option<Mutex<VecDeque<Arc<Notify>>>>,
}

/// A connection's seat, given back when the connection is over so that another can be accepted.
pub(super) struct Seat {
    _permit: OwnedSemaphorePermit,
    called_off: Arc<Notify>,
}

/// The seats of all client listeners.
pub(super) fn for_clients(workers: usize) -> Result<Arc<Seats>, StartError> {
    let seats = left_over(getrlimit(Resource::Nofile).current, workers)?;
    Ok(Arc::new(Seats { free: Arc::new(Semaphore::new(seats)), seated: None }))
}

/// The seats of the metrics listeners: a probe finds one however many clients there are.
pub(super) fn for_metrics() -> Arc<Seats> {
    let free = Arc::new(Semaphore::new(limits::METRICS_CONNECTIONS_MAX));
    Arc::new(Seats { free, seated: Some(Mutex::default()) })
}

impl Seats {
    /// Waits until another connection may be open.
    pub async fn sit_down(&self) -> Seat {
        if let Some(seated) = &self.seated {
            let mut seated = seated.lock();
            seated.retain(|one| Arc::strong_count(one) > 1);
            if self.free.available_permits() == 0
                && let Some(oldest) = seated.pop_front()
            {
                oldest.notify_one();
            }
        }
        let permit = self.free.clone().acquire_owned().await.expect("nobody closes the semaphore");
        Seat { _permit: permit, called_off: Arc::default() }
    }

    /// A connection takes the seat it was accepted for.
    pub fn take(&self, seat: &Seat) {
        if let Some(seated) = &self.seated {
            seated.lock().push_back(seat.called_off.clone());
        }
    }
}

impl Seat {
    /// Returns when somebody else needs the seat more.
    pub async fn called_off(&self) {
        self.called_off.notified().await;
    }
}

/// What a limit on descriptors leaves for clients. No limit is `None`.
fn left_over(limit: Option<u64>, workers: usize) -> Result<usize, StartError> {
    let Some(limit) = limit else { return Ok(Semaphore::MAX_PERMITS) };
    let own = limits::DESCRIPTORS_RESERVED + limits::DESCRIPTORS_PER_WORKER * workers as u64;
    match limit.checked_sub(own) {
        None | Some(0) => Err(StartError::Descriptors { limit, needed: own + 1 }),
        Some(seats) => {
            let seats = usize::try_from(seats).unwrap_or(Semaphore::MAX_PERMITS);
            Ok(seats.min(Semaphore::MAX_PERMITS))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn for_a_newcomer_the_one_goes_that_has_sat_the_longest() {
        let seats = for_metrics();
        let mut sitting = Vec::new();
        for _ in 0..limits::METRICS_CONNECTIONS_MAX {
            let seat = seats.sit_down().await;
            seats.take(&seat);
            sitting.push(seat);
        }
        // One has left of itself; there is a seat, and nobody has to go.
        drop(sitting.remove(0));
        let newcomer = seats.sit_down().await;
        seats.take(&newcomer);
        let oldest = sitting.remove(0);
        let makes_room = async {
            oldest.called_off().await;
            drop(oldest);
        };
        let (_, seat) = tokio::join!(makes_room, seats.sit_down());
        seats.take(&seat);
    }

    #[test]
    fn clients_leave_descriptors_for_the_member() {
        assert_eq!(left_over(Some(1024), 4).expect("enough"), 1024 - 150 - 16);
        assert_eq!(left_over(None, 4).expect("no limit"), Semaphore::MAX_PERMITS);
        assert_eq!(left_over(Some(u64::MAX), 4).expect("enough"), Semaphore::MAX_PERMITS);
        let refused = left_over(Some(166), 4).expect_err("nothing is left");
        assert!(refused.to_string().contains("needs 167 and more (ulimit -n"), "{refused}");
    }
}
