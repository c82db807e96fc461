//! Readers: cheap handles that see the newest published state and never wait for the writer.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;

use super::hash::Hashes;
use super::index::{Index, NOW};
use super::revision::Revision;
use super::rows::Rows;
use super::state::State;
use crate::error::{Error, Failure, Fault};
use crate::pb;
use crate::storage::engine::Engine;

/// What the writer shows to readers, all at once.
#[derive(Debug)]
pub struct Published {
    pub index: Index,
    pub revision: i64,
    pub compact_revision: i64,
}

/// What writer and readers share.
#[derive(Debug)]
pub struct Shared {
    pub published: ArcSwap<Published>,
    pub rows: Rows,
    /// Of recent compactions.
    pub hashes: Mutex<Hashes>,
}

/// A handle for reading; clone it freely.
#[derive(Clone, Debug)]
pub struct Reader {
    pub(super) shared: Arc<Shared>,
}

impl Reader {
    /// The newest published state, held still.
    pub fn view(&self) -> View {
        View { shared: Arc::clone(&self.shared), published: self.shared.published.load_full() }
    }

    /// The newest published revision.
    pub fn revision(&self) -> i64 {
        self.shared.published.load().revision
    }

    /// The oldest readable revision; -1 before the first compaction.
    pub fn compact_revision(&self) -> i64 {
        self.shared.published.load().compact_revision
    }

    /// Answers a range request from the newest state.
    pub fn range(&self, request: &pb::RangeRequest) -> Result<pb::RangeResponse, Failure> {
        loop {
            let view = self.view();
            match view.range(request) {
                // The newest state is always readable: a compaction overtook this view of it.
                Err(Failure::Refused(Error::Compacted))
                    if request.revision <= 0 && self.compact_revision() > view.revision() => {}
                answer => return answer,
            }
        }
    }

    /// The row of `key` before main revision `revision`, for an event's `prev_kv`.
    ///
    /// Absent if there was none, or if compaction has taken it: etcd leaves it out silently.
    pub fn previous(&self, key: &[u8], revision: i64) -> Result<Option<Bytes>, Failure> {
        let view = self.view();
        let at = revision - 1;
        if at < view.compact_revision() || at <= 0 {
            return Ok(None);
        }
        let Some(facts) = view.published.index.get(key, at) else { return Ok(None) };
        match view.state().rows(at, &[facts.revision]) {
            Ok(mut rows) => Ok(rows.pop()),
            Err(Failure::Refused(_)) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Lets go of buffered rows up to `revision`, which the engine has committed.
    pub fn checkpointed(&self, revision: Revision) {
        self.shared.rows.buffer.checkpointed(revision);
    }

    /// Bytes of rows that the engine does not hold yet.
    pub fn buffered_bytes(&self) -> u64 {
        self.shared.rows.buffer.bytes()
    }

    /// Bytes of memory for those, and for their way there.
    pub fn buffer_memory(&self) -> u64 {
        self.shared.rows.buffer.memory()
    }

    /// Bytes of all rows applied since the store was opened.
    pub fn applied_bytes(&self) -> u64 {
        self.shared.rows.buffer.appended_bytes()
    }

    /// Bytes of all rows: what the engine holds and what it is about to be given.
    pub fn live_bytes(&self) -> Result<i64, Fault> {
        let bytes = self.engine().used_bytes()?.saturating_add(self.buffered_bytes());
        Ok(i64::try_from(bytes).unwrap_or(i64::MAX))
    }

    /// The engine in use.
    pub fn engine(&self) -> Arc<dyn Engine> {
        self.shared.rows.engine()
    }

    /// Puts an engine that holds the same rows in place of this one.
    pub fn replace_engine(&self, engine: Arc<dyn Engine>) {
        self.shared.rows.replace_engine(engine);
    }
}

/// One published state, held still for as long as this lives.
#[derive(Clone, Debug)]
pub struct View {
    pub(super) shared: Arc<Shared>,
    pub(super) published: Arc<Published>,
}

impl View {
    /// The state, for everything that can be asked of one.
    pub fn state(&self) -> State<'_> {
        State {
            shared: &self.shared,
            index: &self.published.index,
            revision: self.published.revision,
            compact_revision: self.published.compact_revision,
        }
    }

    /// The main revision this view stands for.
    pub fn revision(&self) -> i64 {
        self.published.revision
    }

    /// The oldest revision it can answer for.
    pub fn compact_revision(&self) -> i64 {
        self.published.compact_revision
    }

    /// Answers a range request; see [`State::range`].
    pub fn range(&self, request: &pb::RangeRequest) -> Result<pb::RangeResponse, Failure> {
        self.state().range(request)
    }

    /// The number of live keys of a request's span.
    pub fn count(&self, request: &pb::RangeRequest) -> i64 {
        let span = crate::span::Span::new(request.key.clone(), request.range_end.clone());
        self.state().count(&span)
    }

    /// As [`View::range`], unless the rows come to more than `bytes_max`.
    pub fn range_within(
        &self,
        request: &pb::RangeRequest,
        bytes_max: usize,
    ) -> Result<Option<pb::RangeResponse>, Failure> {
        self.state().range_within(request, bytes_max)
    }

    /// The number of live keys, for metrics and checks.
    pub fn keys(&self) -> i64 {
        let all = crate::span::Span { start: Bytes::new(), end: crate::span::End::Open };
        self.published.index.count(&all, NOW)
    }
}
