//! `snapshot restore`: a member's data directory from a snapshot.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::rewrite::Bump;
use crate::config::Config;

/// What to restore, and what the member shall be.
#[derive(Clone, Debug)]
pub struct Options {
    pub snapshot: PathBuf,
    /// The member to be: name, directories, engine, founding members. Already verified.
    pub config: Config,
    /// Take a file without a hash, or with a wrong one.
    pub skip_hash_check: bool,
    pub bump_revision: u64,
    pub mark_compacted: bool,
}

/// Makes the data directory. It must not exist, or be empty.
pub fn restore(options: &Options) -> Result<()> {
    let _bump = Bump::from_flags(options.bump_revision, options.mark_compacted)?;
    bail!("this version of kvorum does not restore snapshots")
}
