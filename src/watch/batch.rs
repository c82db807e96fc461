//! One revision's events, each encoded at most twice however many watchers get it.
//!
//! Two encodings exist, without and with the previous row, both made when first asked for. A
//! watcher that gets all events of the revision, the usual case, shares even their list.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use crate::error::Fault;
use crate::pb;

use super::change::{Change, Changes, Kind, Lookup};
use super::delivery::event_cost;

/// Events selected for one response, and what they count for.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    pub events: Arc<[Bytes]>,
    pub bytes: usize,
}

/// A selection needs a previous row that nobody looked up; history has it.
#[derive(Debug)]
pub(super) struct Unasked;

/// The changes of one revision and what they look like on the wire.
#[derive(Debug)]
pub(super) struct Batch {
    pub revision: i64,
    events: Vec<Event>,
    /// All events, without and with previous rows.
    whole: [Option<Selection>; 2],
}

#[derive(Debug)]
struct Event {
    change: Change,
    previous: Previous,
    /// The encodings without and with the previous row.
    encoded: [Option<Bytes>; 2],
}

#[derive(Debug)]
enum Previous {
    Unasked,
    Known(Option<Bytes>),
}

impl Batch {
    /// The changes of a revision, nothing encoded yet.
    pub fn new(changes: Changes) -> Self {
        let mut batch =
            Self { revision: changes.revision, events: Vec::new(), whole: [None, None] };
        batch.events = changes.events.into_iter().map(Event::new).collect();
        batch
    }

    /// A revision to which [`Batch::push`] adds events.
    pub fn empty(revision: i64) -> Self {
        Self { revision, events: Vec::new(), whole: [None, None] }
    }

    /// Adds an event read from history, with its previous row if one was wanted and found.
    pub fn push(&mut self, change: Change, previous: Option<Bytes>) {
        let mut event = Event::new(change);
        event.previous = Previous::Known(previous);
        self.events.push(event);
    }

    /// The number of events.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// The changes in order.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.events.iter().map(|event| &event.change)
    }

    /// Bytes the changes occupy in memory, counting the encodings they may get.
    pub fn size_bytes(&self) -> usize {
        let event = |event: &Event| 2 * (event.change.row.len() + event.change.key.len()) + 160;
        64 + self.events.iter().map(event).sum::<usize>()
    }

    /// Looks up the previous row of an event unless that was done.
    pub fn ask(&mut self, index: usize, lookup: &mut Lookup<'_>) -> Result<(), Fault> {
        let event = &mut self.events[index];
        if matches!(event.previous, Previous::Unasked) {
            event.previous = Previous::Known(lookup(&event.change)?);
        }
        Ok(())
    }

    /// The events at `indices`, ascending and not empty.
    pub fn select(&mut self, indices: &[u32], previous: bool) -> Result<Selection, Unasked> {
        let all = indices.len() == self.events.len();
        if all && let Some(whole) = &self.whole[usize::from(previous)] {
            return Ok(whole.clone());
        }
        let mut events = Vec::with_capacity(indices.len());
        let bytes = self.collect(indices, previous, &mut events)?;
        let selection = Selection { events: events.into(), bytes };
        if all {
            self.whole[usize::from(previous)] = Some(selection.clone());
        }
        Ok(selection)
    }

    /// Appends the events at `indices` to `events`, all or none; what they count for.
    pub fn collect(
        &mut self,
        indices: &[u32],
        previous: bool,
        events: &mut Vec<Bytes>,
    ) -> Result<usize, Unasked> {
        let before = events.len();
        for index in indices {
            match self.events[*index as usize].encode(previous) {
                Ok(event) => events.push(event),
                Err(unasked) => {
                    events.truncate(before);
                    return Err(unasked);
                }
            }
        }
        Ok(events[before..].iter().map(event_cost).sum())
    }
}

impl Event {
    fn new(change: Change) -> Self {
        // What did not exist has no previous row.
        let previous = if change.created { Previous::Known(None) } else { Previous::Unasked };
        Self { change, previous, encoded: [None, None] }
    }

    fn encode(&mut self, previous: bool) -> Result<Bytes, Unasked> {
        let previous_row = match &self.previous {
            Previous::Known(row) if previous => row.clone(),
            Previous::Unasked if previous => return Err(Unasked),
            Previous::Known(_) | Previous::Unasked => None,
        };
        let slot = &mut self.encoded[usize::from(previous_row.is_some())];
        if let Some(encoded) = slot {
            return Ok(encoded.clone());
        }
        let kind = match self.change.kind {
            Kind::Put => pb::EventType::Put,
            Kind::Delete => pb::EventType::Delete,
        };
        let event = pb::Event {
            r#type: kind.into(),
            kv: Some(self.change.row.clone()),
            prev_kv: previous_row,
        };
        let encoded = Bytes::from(event.encode_to_vec());
        *slot = Some(encoded.clone());
        Ok(encoded)
    }
}
