//! Figures: what a run comes to, and what is asked of it.

/// One result of one run.
#[derive(Clone, Debug)]
pub struct Figure {
    pub name: &'static str,
    pub value: f64,
    pub better: Better,
}

/// Which of two values is the better one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Better {
    Higher,
    Lower,
    /// Neither: it helps to understand the others.
    Neither,
}

/// What a figure of a row has to reach.
#[derive(Clone, Copy)]
pub struct Bar {
    pub figure: &'static str,
    pub kind: Kind,
    pub must: f64,
    pub goal: f64,
}

/// What a bar is held against.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// How many times better than the first target.
    Times,
    /// The value itself, which is to stay below.
    Below,
}

pub const RATE: &str = "op/s";
pub const P50: &str = "p50 µs";
pub const P99: &str = "p99 µs";
pub const SERVER_CPU: &str = "server CPU µs/op";
pub const LOADER_CPU: &str = "loader CPU µs/op";
pub const WRITTEN: &str = "written B/op";
/// A noisy neighbour: where it is not near 0, throughput and latencies say little.
pub const OTHERS: &str = "others' CPU %";
/// Of the only member, or the leader.
pub const RESIDENT: &str = "RSS MB";
pub const FOLLOWER_RESIDENT: &str = "RSS MB, a follower";
pub const FOLLOWER_RESIDENT_TOO: &str = "RSS MB, the other";

pub fn higher(name: &'static str, value: f64) -> Figure {
    Figure { name, value, better: Better::Higher }
}

pub fn lower(name: &'static str, value: f64) -> Figure {
    Figure { name, value, better: Better::Lower }
}

pub fn neither(name: &'static str, value: f64) -> Figure {
    Figure { name, value, better: Better::Neither }
}

/// So many times better than the first target.
pub const fn times(figure: &'static str, must: f64, goal: f64) -> Bar {
    Bar { figure, kind: Kind::Times, must, goal }
}

/// Below so much.
pub const fn below(figure: &'static str, must: f64, goal: f64) -> Bar {
    Bar { figure, kind: Kind::Below, must, goal }
}
