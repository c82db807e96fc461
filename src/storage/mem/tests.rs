//! The model against the rules it sets for the others, and its way back.

use super::*;
use crate::storage::engine::conformance::{Rig, conformance, contents, put};

/// A handle kept while engines come and go is the disk that survives them.
struct Shelf(Mem);

impl Rig for Shelf {
    fn open(&self) -> Box<dyn Engine> {
        Box::new(self.0.clone())
    }
}

conformance!(Shelf(Mem::new()));

#[test]
fn rewinds_to_an_older_commit() {
    let mem = Mem::keeping(3);
    let mut states = vec![contents(&*mem.view().unwrap())];
    for commit in 1..=5u8 {
        mem.commit(&[put(Table::Key, "k", [commit]), put(Table::Key, [commit], "")]).unwrap();
        states.push(contents(&*mem.view().unwrap()));
    }
    let held = mem.view().unwrap();
    assert_eq!(mem.rewind(0), 0);
    assert_eq!(mem.rewind(1), 1);
    assert_eq!(contents(&*mem.view().unwrap()), states[4]);
    assert_eq!(mem.rewind(9), 2, "as far as it remembers");
    assert_eq!(contents(&*mem.view().unwrap()), states[2]);
    assert_eq!(mem.rewind(1), 0);
    assert_eq!(contents(&*held), states[5]);
    mem.commit(&[put(Table::Key, "k", "new")]).unwrap();
    assert_eq!(mem.rewind(1), 1);
    assert_eq!(contents(&*mem.view().unwrap()), states[2]);
    assert_eq!(mem.used_bytes().unwrap(), 4);
}
