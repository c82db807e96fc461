//! Bounds: what waits in a member stays within `limits`, and is gone when nobody asks any more.

use kvorum::limits;
use kvorum::sim::Load;

use super::world::World;

/// The most of clients' requests that can be under way in a world: each of the few clients has one
/// at a time, but those it has given up may wait for their end for a while.
const REQUESTS_MAX: usize = 300;
/// Entries beyond those kept for followers that may be in memory at rest: those since the newest
/// checkpoint, and a restart's.
const ENTRIES_MAX: u64 = 1_000;

impl World {
    /// Whether a member holds more than it may.
    pub fn check_load(&mut self, seat: usize) -> Result<(), String> {
        let Some(process) = &self.seats[seat].process else { return Ok(()) };
        let load = process.member.load();
        let responses = process.member.watch_limits().stream_responses as u64;
        if load.reads_beside_others {
            return Err(format!("m{seat} answers readers at once, and is not alone"));
        }
        // Each watch of a stream may be told of its creation or its end beyond the bound.
        let queued_max = load.watch_streams as u64 * (responses + 40);
        let within = load.inbox.0 <= limits::DRIVER_INBOX_MAX.min(REQUESTS_MAX)
            && load.inbox.1 <= limits::PEER_INBOX_MAX
            && load.held.0 <= limits::PROPOSALS_HELD_MAX.min(REQUESTS_MAX)
            && load.held.1 <= limits::PROPOSALS_HELD_BYTES_MAX
            && load.messages_held <= limits::PROPOSALS_HELD_MAX
            && load.questions_held <= limits::PROPOSALS_HELD_MAX
            && load.waiting <= REQUESTS_MAX
            && load.readers <= REQUESTS_MAX
            && load.expected <= REQUESTS_MAX
            && load.watch_queued <= queued_max;
        match within {
            true => Ok(()),
            false => Err(format!("m{seat} holds more than it may: {load:?}")),
        }
    }

    /// Whether nothing waits any more, now that nobody asks.
    pub fn is_idle(&self) -> bool {
        let idle = |load: Load| {
            let Load { held, waiting, readers, expected, postponed, .. } = load;
            let left = held.0 + waiting + readers + expected + postponed;
            let left = left + load.messages_held + load.questions_held + load.inbox.0;
            left == 0 && load.entries <= self.profile.catchup_entries + ENTRIES_MAX
        };
        let processes = self.seats.iter().filter_map(|seat| seat.process.as_ref());
        processes.into_iter().all(|process| idle(process.member.load()))
    }
}
