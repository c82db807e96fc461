//! The body of the fuzz target: a log of arbitrary bytes opens or is refused, and never panics.

use std::path::Path;
use std::sync::Arc;

use bytes::{Buf, Bytes};

use crate::storage::disk::{Disk, SimDisk};

use super::format::{self, Link, SECTOR_BYTES};
use super::segment::{Header, Name};
use super::standing::Standing;
use super::{Batch, Entry, EntryKind, Identity, Options, Recovered, Wal, verify};

/// Opens a log made of `bytes`, and again what the first open left.
///
/// An even first byte takes the rest as one segment file, checksums and all. An odd one takes it as
/// pieces of a length and a body each, and frames them properly, so that the fuzzer reaches what
/// the checksums guard.
pub fn fuzz_open(bytes: &[u8]) {
    let Some((mode, rest)) = bytes.split_first() else {
        return;
    };
    let image = if mode % 2 == 0 { rest.to_vec() } else { framed(rest) };
    let dir = Path::new("/wal");
    let disk = SimDisk::new(0);
    disk.plant(&Name { sequence: 1, first_index: 1 }.path(dir), &image);
    let options = Options { segment_bytes: 0, prefill: false };
    let report = verify(&disk, dir).expect("the directory can be listed");
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let first = Wal::open(disk.clone(), dir, None, options);
    assert_eq!(report.damage.is_none(), first.is_ok(), "verify and open agree");
    if let Ok((wal, recovered)) = first {
        drop(wal);
        let second = Wal::open(disk.clone(), dir, None, options);
        let (wal, again) = second.expect("it opened before");
        assert_eq!(recovered, again, "opening changes nothing");
        extend(disk, dir, wal, again);
    }
}

/// Appends to what was opened, and finds it behind the rest.
fn extend(disk: Arc<dyn Disk>, dir: &Path, mut wal: Wal, mut recovered: Recovered) {
    let index = wal.last_index() + 1;
    let entry = Entry { term: 1, index, kind: EntryKind::Normal, data: Bytes::from_static(b"x") };
    let entries = std::slice::from_ref(&entry);
    if wal.append(&Batch { entries, ..Batch::default() }).is_err() {
        assert_eq!(index, u64::MAX, "nothing else is in the way");
        return;
    }
    wal.sync().expect("the disk is well");
    drop(wal);
    recovered.entries.push(entry);
    recovered.torn = false;
    let options = Options { segment_bytes: 0, prefill: false };
    let (_, mut extended) = Wal::open(disk, dir, None, options).expect("it was just written");
    extended.torn = false;
    assert_eq!(recovered, extended, "what was appended follows what was there");
}

/// A segment whose first frame is a proper header and whose others have the given bodies.
fn framed(mut bytes: &[u8]) -> Vec<u8> {
    let header = Header {
        identity: Identity { cluster_id: 1, member_id: 2 },
        first_index: 1,
        previous_end: 0,
        standing: Standing::default(),
    };
    let mut body = Vec::new();
    header.encode(&mut body);
    let mut image = Vec::new();
    let mut link = frame(&mut image, &body, Link { sequence: 1, ..Link::default() });
    link.salt = link.previous;
    while bytes.remaining() >= 2 {
        let length = (bytes.get_u16_le() as usize).min(bytes.len());
        let (body, rest) = bytes.split_at(length);
        link = frame(&mut image, body, link);
        bytes = rest;
    }
    image
}

fn frame(image: &mut Vec<u8>, body: &[u8], link: Link) -> Link {
    let mut buffer = Vec::new();
    format::begin(&mut buffer);
    buffer.extend_from_slice(body);
    let link = format::seal(&mut buffer, link, image.len() as u64);
    buffer.resize(buffer.len().next_multiple_of(SECTOR_BYTES as usize), 0);
    image.extend_from_slice(&buffer);
    link
}
