//! Ways to spoil a history that is true, each as one defect of a store would.

mod leases;
mod ops;
mod places;
mod protocol;
mod watches;

use rand::rngs::SmallRng;

use crate::checker::By;
use crate::checker::history::History;

/// A way to spoil a history.
pub struct Lie {
    pub name: &'static str,
    /// Changes a history, or says that there is no place for it there.
    pub tell: fn(&mut History, &mut SmallRng) -> Option<()>,
    /// Who has to notice it, every time.
    pub by: &'static [By],
    /// Whether it shows in the answers alone, so that a search has to notice it too.
    pub is_answered: bool,
}

impl Lie {
    const fn new(
        name: &'static str,
        tell: fn(&mut History, &mut SmallRng) -> Option<()>,
        by: &'static [By],
    ) -> Self {
        Self { name, tell, by, is_answered: false }
    }

    /// One that shows in the answers alone.
    const fn answered(
        name: &'static str,
        tell: fn(&mut History, &mut SmallRng) -> Option<()>,
        by: &'static [By],
    ) -> Self {
        Self { name, tell, by, is_answered: true }
    }
}

/// All lies.
pub fn lies() -> impl Iterator<Item = &'static Lie> {
    let watches = watches::LIES.iter().chain(protocol::LIES);
    ops::LIES.iter().chain(watches).chain(leases::LIES)
}
