//! The splitting of a response too large for one message, for clients that asked for it.
//!
//! Pieces are filled greedily and stay below the limit, except a single event that does not.

use std::sync::Arc;

use bytes::Bytes;

use super::delivery::{frame_bytes, framed_bytes};

/// The pieces of `events`: one when their response is below `limit_bytes` or has a single event.
pub(super) fn split(watch_id: i64, events: Arc<[Bytes]>, limit_bytes: usize) -> Vec<Arc<[Bytes]>> {
    let frame = frame_bytes(watch_id);
    let total = frame + events.iter().map(framed_bytes).sum::<usize>();
    if total < limit_bytes || events.len() < 2 {
        return vec![events];
    }
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut size = frame;
    for (index, event) in events.iter().enumerate() {
        size += framed_bytes(event);
        if index > start && size >= limit_bytes {
            pieces.push(events[start..index].into());
            start = index;
            size = frame + framed_bytes(event);
        }
    }
    pieces.push(events[start..].into());
    pieces
}
