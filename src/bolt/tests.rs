//! Writing, reading back, files of real etcd, and hostile files.
//!
//! - `files`: what is read and written here, and how a file is changed at a computed place.
//! - `round_trip`: what the writer is given, the reader gives back.
//! - `shape`: where the writer puts it: full pages, balanced branches, nothing left over.
//! - `golden`: files of etcd and bbolt, against what bbolt reads in them.
//! - `metas`, `trees`, `elements`, `freelists`, `trailers`: each rule of the format broken, alone.
//! - `bounds`: what is not read, because it is too large, or cannot be, or comes after an error.
//! - `noise`: damage that nobody thought of.

mod bounds;
mod elements;
pub(crate) mod files;
mod freelists;
pub(crate) mod golden;
mod metas;
mod noise;
mod round_trip;
mod shape;
mod trailers;
mod trees;
