//! History in the order it happened, for watchers that catch up.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::reader::View;
use super::revision::Revision;
use super::row::{self, Fields};
use super::txn::{Change, Kind};
use super::whole::Whole;
use crate::error::{Error, Failure, Fault};

impl View {
    /// Visits the changes of main revisions `from` to `to`, both included and `to` at most the
    /// view's, but of no more than `revisions_max` different ones. Returns the revision to go on
    /// from, or `None` at the end. A revision is visited whole or not at all.
    ///
    /// `from` may be the compact revision itself; below it history is gone. Behind it no row may be
    /// missing: a damaged engine that hides some is found out.
    pub fn history(
        &self,
        from: i64,
        to: i64,
        revisions_max: usize,
        visit: &mut dyn FnMut(Change),
    ) -> Result<Option<i64>, Failure> {
        let to = to.min(self.revision());
        if from < self.shared.published.load().compact_revision {
            return Err(Error::Compacted.into());
        }
        if from > to {
            return Ok(None);
        }
        let (mut seen, mut last, mut next) = (0, None, None);
        let (from, to) = (Revision::new(from.max(0), 0), Revision::new(to, Revision::SUB_MAX));
        let pinned = self.shared.rows.pin()?;
        // Read behind the rows: those that were gone by then, it covers.
        let compacted = self.shared.published.load().compact_revision;
        let before = Revision::new(from.main - 1, Revision::SUB_MAX);
        let mut whole = Whole::behind(before, compacted);
        pinned.scan(from, to, &mut |revision, tombstone, row| {
            whole.follow(revision)?;
            if last != Some(revision.main) {
                if seen == revisions_max {
                    next = Some(revision.main);
                    return Ok(ControlFlow::Break(()));
                }
                seen += 1;
                last = Some(revision.main);
            }
            visit(change(revision, tombstone, row)?);
            Ok(ControlFlow::Continue(()))
        })?;
        // Rows may have been compacted away while they were read.
        if from.main < self.shared.published.load().compact_revision {
            return Err(Error::Compacted.into());
        }
        whole.end(next.map_or(to.main, |next| next - 1))?;
        Ok(next)
    }
}

/// The event a stored row stands for.
fn change(revision: Revision, tombstone: bool, row: &[u8]) -> Result<Change, Fault> {
    let fields = Fields::decode(row)?;
    if tombstone {
        let row = Fields { mod_revision: revision.main, key: fields.key, ..Fields::default() };
        let row = row.encode();
        let key = row::key_of(&row);
        return Ok(Change { revision, kind: Kind::Delete, created: false, key, row });
    }
    let created = fields.create_revision == fields.mod_revision;
    let row = Bytes::copy_from_slice(row);
    let key = row::key_of(&row);
    Ok(Change { revision, kind: Kind::Put, created, key, row })
}
