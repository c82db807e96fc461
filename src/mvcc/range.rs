//! Range: etcd's rules for selecting, filtering, sorting and cutting a span of keys.
//!
//! Everything that can be decided from the index is decided there; rows are fetched only for the
//! keys that are answered, and not at all for counts and keys. Sorting by value is the exception:
//! it needs every row of the span.
//!
//! Rules that surprise:
//! - Order NONE with a target other than KEY still sorts ascending by the target, but only what the
//!   limit let through in key order.
//! - `count` is the size of the span, whatever limit and filters say; `more` speaks of what is left
//!   after the filters.
//! - Keys without values carry no lease, unless sorted by value (etcd 3.7).

use std::cmp::Ordering;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::index::Facts;
use super::revision::Revision;
use super::row::Fields;
use super::state::State;
use crate::error::{Failure, Fault};
use crate::pb;
use crate::pb::range_request::{SortOrder, SortTarget};
use crate::span::Span;

/// Rows fetched before it is looked at how long they are.
const FETCHED_AT_ONCE: usize = 32;

impl State<'_> {
    /// Answers a range request. The header carries only the revision.
    ///
    /// Sort order and target must be known numbers; the API sees to that.
    pub fn range(&self, request: &pb::RangeRequest) -> Result<pb::RangeResponse, Failure> {
        Ok(self.range_within(request, usize::MAX)?.expect("nothing is longer"))
    }

    /// As [`State::range`], unless the rows come to more than `bytes_max`.
    pub fn range_within(
        &self,
        request: &pb::RangeRequest,
        bytes_max: usize,
    ) -> Result<Option<pb::RangeResponse>, Failure> {
        let at = self.resolve(request.revision)?;
        let span = Span::new(request.key.clone(), request.range_end.clone());
        let header = pb::ResponseHeader { revision: self.revision, ..Default::default() };
        let mut response = pb::RangeResponse { header: Some(header), ..Default::default() };
        if request.count_only {
            response.count = self.index.count(&span, at);
            return Ok(Some(response));
        }
        let plan = Plan::of(request);
        let mut picked = Picked::default();
        let walked = self.pick(&span, at, &plan, &mut picked);
        response.count = walked.unwrap_or_else(|| self.index.count(&span, at));
        let order = match plan.sort {
            Some((SortTarget::Value, descend)) => picked.fetch(self, at)?.by_value(descend)?,
            Some((target, descend)) => picked.by_facts(target, descend),
            None => picked.in_key_order(),
        };
        response.more = order.len() > plan.limit;
        let answered = &order[..order.len().min(plan.limit)];
        let rows = picked.answer(self, at, answered, plan.keys_only, bytes_max)?;
        Ok(rows.map(|kvs| pb::RangeResponse { kvs, ..response }))
    }

    /// Collects the keys the plan lets through; returns how many the span holds, if all were seen.
    fn pick(&self, span: &Span, at: i64, plan: &Plan<'_>, picked: &mut Picked) -> Option<i64> {
        let keep_keys = plan.keys_only && !plan.sorts_by_value();
        let mut walked = 0;
        let mut all = true;
        self.index.visit(span, at, &mut |key, facts| {
            if picked.facts.len() == plan.walk_max {
                all = false;
                return ControlFlow::Break(());
            }
            walked += 1;
            if plan.lets_through(facts) {
                picked.facts.push(facts);
                if keep_keys {
                    key.append_to(&mut picked.keys);
                    picked.key_ends.push(picked.keys.len());
                }
            }
            ControlFlow::Continue(())
        });
        all.then_some(walked)
    }
}

/// A request, read.
struct Plan<'a> {
    request: &'a pb::RangeRequest,
    /// What to sort by and whether downwards; `None` is key order.
    sort: Option<(SortTarget, bool)>,
    /// How many keys are answered at most.
    limit: usize,
    /// How many keys the walk may take: one more than the limit tells whether there is more.
    walk_max: usize,
    keys_only: bool,
}

impl<'a> Plan<'a> {
    fn of(request: &'a pb::RangeRequest) -> Self {
        let order = request.sort_order();
        let sort = match (order, request.sort_target()) {
            (SortOrder::None | SortOrder::Ascend, SortTarget::Key) => None,
            (SortOrder::None | SortOrder::Ascend, target) => Some((target, false)),
            (SortOrder::Descend, target) => Some((target, true)),
        };
        let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0);
        let limit = limit.unwrap_or(usize::MAX);
        let unfiltered = request.min_mod_revision == 0
            && request.max_mod_revision == 0
            && request.min_create_revision == 0
            && request.max_create_revision == 0;
        let cut = unfiltered && (order == SortOrder::None || sort.is_none());
        let walk_max = if cut { limit.saturating_add(1) } else { usize::MAX };
        Self { request, sort, limit, walk_max, keys_only: request.keys_only }
    }

    fn sorts_by_value(&self) -> bool {
        matches!(self.sort, Some((SortTarget::Value, _)))
    }

    /// The four filters; 0 switches one off.
    fn lets_through(&self, facts: Facts) -> bool {
        let within = |value: i64, min: i64, max: i64| {
            (max == 0 || value <= max) && (min == 0 || value >= min)
        };
        let (request, modified) = (self.request, facts.revision.main);
        within(modified, request.min_mod_revision, request.max_mod_revision)
            && within(
                facts.create_revision,
                request.min_create_revision,
                request.max_create_revision,
            )
    }
}

/// The keys that may be answered, in key order.
#[derive(Default)]
struct Picked {
    facts: Vec<Facts>,
    /// The keys end to end, if the answer is keys without values.
    keys: Vec<u8>,
    key_ends: Vec<usize>,
    /// All their rows, if they were needed to sort.
    rows: Vec<Bytes>,
}

impl Picked {
    fn in_key_order(&self) -> Vec<usize> {
        (0..self.facts.len()).collect()
    }

    fn by_facts(&self, target: SortTarget, descend: bool) -> Vec<usize> {
        let number = |at: usize| match target {
            // Key order is the order they stand in.
            SortTarget::Key | SortTarget::Value => at as i64,
            SortTarget::Version => self.facts[at].version,
            SortTarget::Create => self.facts[at].create_revision,
            SortTarget::Mod => self.facts[at].revision.main,
        };
        self.sorted(descend, |a, b| number(a).cmp(&number(b)))
    }

    /// Fetches all rows.
    fn fetch(&mut self, state: &State<'_>, at: i64) -> Result<&Self, Failure> {
        let wanted: Vec<Revision> = self.facts.iter().map(|facts| facts.revision).collect();
        self.rows = state.rows(at, &wanted)?;
        Ok(self)
    }

    fn by_value(&self, descend: bool) -> Result<Vec<usize>, Fault> {
        let value = |row: &'_ Bytes| Fields::decode(row).map(|fields| row.slice_ref(fields.value));
        let values: Vec<Bytes> = self.rows.iter().map(value).collect::<Result<_, _>>()?;
        Ok(self.sorted(descend, |a, b| values[a].cmp(&values[b])))
    }

    /// Sorts stably, so that ties keep key order both ways.
    fn sorted(&self, descend: bool, compare: impl Fn(usize, usize) -> Ordering) -> Vec<usize> {
        let mut order = self.in_key_order();
        order.sort_by(|a, b| if descend { compare(*b, *a) } else { compare(*a, *b) });
        order
    }

    /// The rows to send, unless they come to more than `bytes_max`.
    fn answer(
        &self,
        state: &State<'_>,
        at: i64,
        order: &[usize],
        keys_only: bool,
        bytes_max: usize,
    ) -> Result<Option<Vec<Bytes>>, Failure> {
        if !self.rows.is_empty() {
            let bare = |row: &Bytes| Ok(Fields { value: &[], ..Fields::decode(row)? }.encode());
            let row = |at: &usize| &self.rows[*at];
            let rows = order.iter().map(row);
            let rows = rows.map(|r| if keys_only { bare(r) } else { Ok(r.clone()) });
            return rows.collect::<Result<_, _>>().map(Some);
        }
        if keys_only {
            return Ok(Some(self.bare_rows(order)));
        }
        let wanted: Vec<Revision> = order.iter().map(|at| self.facts[*at].revision).collect();
        if bytes_max == usize::MAX || wanted.len() <= FETCHED_AT_ONCE {
            return state.rows(at, &wanted).map(Some);
        }
        let (mut rows, mut bytes) = (Vec::with_capacity(wanted.len()), 0);
        for some in wanted.chunks(FETCHED_AT_ONCE) {
            let some = state.rows(at, some)?;
            bytes += some.iter().map(Bytes::len).sum::<usize>();
            if bytes > bytes_max {
                return Ok(None);
            }
            rows.extend(some);
        }
        Ok(Some(rows))
    }

    /// Rows of key and revisions alone, made from the index; they share one allocation.
    fn bare_rows(&self, order: &[usize]) -> Vec<Bytes> {
        let mut bytes = Vec::new();
        let mut ends = Vec::with_capacity(order.len());
        for &at in order {
            let start = at.checked_sub(1).map_or(0, |before| self.key_ends[before]);
            let key = &self.keys[start..self.key_ends[at]];
            Fields::of(key, self.facts[at]).encode_to(&mut bytes);
            ends.push(bytes.len());
        }
        let mut bytes = Bytes::from(bytes);
        let mut start = 0;
        let mut next = |end: usize| bytes.split_to(end - std::mem::replace(&mut start, end));
        ends.into_iter().map(&mut next).collect()
    }
}
