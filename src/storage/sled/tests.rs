//! sled against the shared claims, and the precautions that are only its own.

use super::*;
use crate::storage::engine::conformance::{Rig, conformance};

/// A directory that outlives the engines opened in it.
struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

impl Rig for Directory {
    fn open(&self) -> Box<dyn Engine> {
        Box::new(Sled::open(&self.0.path().join("sled"), CACHE_BYTES).unwrap())
    }

    fn histories(&self) -> u32 {
        8
    }

    fn counts_rows(&self) -> bool {
        false
    }
}

conformance!(Directory::new());
