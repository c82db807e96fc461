//! Seats: how many connections may be open at once, by the descriptors this process may have.
//!
//! A connection takes a descriptor, and so does a segment of the log. Clients that take the last
//! one would stop the member at its next segment; so they wait in the kernel's queue instead.

use std::sync::Arc;

use rustix::process::{Resource, getrlimit};
use tokio::sync::Semaphore;

use super::StartError;
use crate::limits;

/// The seats of all client listeners.
pub(super) fn for_clients(workers: usize) -> Result<Arc<Semaphore>, StartError> {
    let seats = left_over(getrlimit(Resource::Nofile).current, workers)?;
    Ok(Arc::new(Semaphore::new(seats)))
}

/// The seats of the metrics listeners: a probe finds one however many clients there are.
pub(super) fn for_metrics() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(limits::METRICS_CONNECTIONS_MAX))
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

    #[test]
    fn clients_leave_descriptors_for_the_member() {
        assert_eq!(left_over(Some(1024), 4).expect("enough"), 1024 - 150 - 16);
        assert_eq!(left_over(None, 4).expect("no limit"), Semaphore::MAX_PERMITS);
        assert_eq!(left_over(Some(u64::MAX), 4).expect("enough"), Semaphore::MAX_PERMITS);
        let refused = left_over(Some(166), 4).expect_err("nothing is left");
        assert!(refused.to_string().contains("needs 167 and more (ulimit -n"), "{refused}");
    }
}
