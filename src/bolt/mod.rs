//! bbolt files: the container of every snapshot.
//!
//! etcd's state travels as a bbolt file: `snapshot save`, backups, restores, and a follower that
//! has fallen too far behind. kvorum keeps its state in another engine, and speaks this format at
//! the door: [`Writer`] turns sorted tables into a file, [`Reader`] a file into sorted rows,
//! [`check`] tells whether every page of a file is sound, [`trailer`] whether it is the file that
//! was saved. There is no B-tree that changes in place here, and no need for one.
//!
//! Invariants:
//! - What the writer makes, bbolt's own check, `etcdutl` and etcd accept.
//! - What the reader is given may be hostile. It is refused or read; it never panics, never makes
//!   the reader allocate or work more than the file is large.
//!
//! In reading order: the layout of a file as numbers (`format`), the two writers' halves (`layout`
//! places rows on pages, `writer` streams), and the reader's (`page`, `tree`, `rows`,
//! `reader`, `check`).

mod check;
mod error;
mod format;
mod fuzz;
mod layout;
mod page;
mod reader;
mod rows;
pub mod trailer;
mod tree;
mod writer;

#[cfg(test)]
pub(crate) mod tests;

pub use check::{Report, check};
pub use error::{Damage, Error};
pub use format::Meta;
pub use fuzz::fuzz_read;
pub(crate) use fuzz::mended;
pub use reader::{ReadAt, Reader};
pub use rows::{Row, TableRows};
pub use tree::{Item, Rows, Walk};
pub use writer::{CHUNK_BYTES, Source, Writer};
