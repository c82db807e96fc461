//! What happened, in columns; and its hash, by which two runs of a seed are compared.

use std::collections::VecDeque;
use std::fmt::Write as _;

/// How many events a failure shows.
const KEPT: usize = 120;

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Event {
    at_us: u64,
    /// Where, by the number of the seat.
    place: Option<usize>,
    what: &'static str,
    detail: String,
}

/// The newest events, and the hash of all.
pub struct Journal {
    events: VecDeque<Event>,
    hash: u64,
    /// Whether to print what happens.
    loud: bool,
    /// Whether to print all that the hash is made of.
    traces: bool,
}

impl Journal {
    pub fn new(loud: bool) -> Self {
        let traces = loud && std::env::var_os("TRACE").is_some();
        Self { events: VecDeque::new(), hash: 0xcbf2_9ce4_8422_2325, loud, traces }
    }

    /// Notes what only counts for the hash.
    pub fn mix(&mut self, numbers: &[u64]) {
        if self.traces {
            println!("trace {numbers:?}");
        }
        for number in numbers {
            self.hash = (self.hash ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(17);
        }
    }

    pub fn note(&mut self, at_us: u64, place: Option<usize>, what: &'static str, detail: String) {
        for bytes in [what.as_bytes(), detail.as_bytes()] {
            for byte in bytes {
                self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
        self.mix(&[at_us, place.map_or(u64::MAX, |place| place as u64)]);
        let event = Event { at_us, place, what, detail };
        if self.loud {
            println!("{}", event.line());
        }
        if self.events.len() == KEPT {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The newest events, a line each.
    pub fn tail(&self) -> String {
        let mut text = "   time in s  at  what       more\n".to_owned();
        for event in &self.events {
            let _ = writeln!(text, "{}", event.line());
        }
        text
    }
}

impl Event {
    fn line(&self) -> String {
        let place = self.place.map_or("-".to_owned(), |place| format!("m{place}"));
        format!("{:>12.6}  {place:<3} {:<10} {}", self.at_us as f64 / 1e6, self.what, self.detail)
    }
}
