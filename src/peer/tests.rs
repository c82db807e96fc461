//! The room as a whole.

pub(super) mod recorded;
