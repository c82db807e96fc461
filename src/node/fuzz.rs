//! The node's part in the fuzz targets `peer_request` and `member_files`.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{images, snapshots};
use crate::mvcc::Store;
use crate::pb::RangeRequest;
use crate::raft::Message;
use crate::storage::blocks;
use crate::storage::disk::{Disk, SimDisk};
use crate::storage::engine::Engine;
use crate::storage::layout::Layout;
use crate::storage::mem::Mem;
use crate::storage::state::{Kind, Place};

/// Takes in a snapshot as a node does, into an engine without a disk.
pub(crate) async fn receive_in_memory(
    message: &Message,
    chunks: mpsc::Receiver<io::Result<Bytes>>,
) -> Result<Mem, String> {
    let (place, file) = (place(&SimDisk::new(0)), Path::new("/arriving"));
    let gathered = snapshots::gather(&place, file, chunks).await;
    let arrived = gathered.map_err(|error| error.to_string())?;
    let engine = Mem::new();
    let said = message.get_snapshot().get_metadata().index;
    snapshots::read(&place, file, &engine, (said, arrived)).map_err(|error| error.to_string())?;
    Ok(engine)
}

fn place(disk: &SimDisk) -> Place {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    disk.create_dir(Path::new("/state")).expect("the disk is well");
    Place { disk, dir: "/state".into(), kind: Kind::Redb, cache_bytes: 1 << 20 }
}

/// Reads `bytes` as one of the small files of a member; the first byte says which. Whatever they
/// are, this returns; and the image of an index is worth as much as its rows.
pub fn fuzz_files(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let disk = SimDisk::new(0);
    match kind % 5 {
        0 => {
            disk.plant(Path::new("/data/format"), bytes);
            let _ = Layout::new(Path::new("/data"), None).inspect(&disk);
        }
        1 => {
            disk.plant(Path::new("/state/current"), bytes);
            let _ = place(&disk).current();
        }
        2 => {
            disk.plant(Path::new("/state/index"), bytes);
            drop(images::read(&place(&disk)));
        }
        // What its checksums guard.
        3 => {
            write_blocks(&place(&disk), bytes);
            drop(images::read(&place(&disk)));
        }
        _ => check_image(&place(&disk), bytes),
    }
}

/// Starts on rows and on the image of them: both must show the same.
fn check_image(place: &Place, bytes: &[u8]) {
    let engine: Arc<dyn Engine> = Arc::new(crate::tool::fuzz::engine(bytes));
    let Ok(store) = Store::open(engine.clone()) else { return };
    let created = blocks::Writer::create(&place.disk, &place.image_path());
    let mut file = created.expect("the disk is well");
    store.image().write(&mut file).expect("the disk is well");
    file.finish().expect("the disk is well");
    let image = images::read(place).expect("an image that was written is read");
    let again = Store::open_with(engine, Some(image)).expect("it opened before");
    for revision in [0, 1, store.revision() / 2, store.revision() - 1] {
        let request = RangeRequest {
            key: Bytes::from_static(b"\0"),
            range_end: Bytes::from_static(b"\0"),
            keys_only: true,
            revision,
            ..RangeRequest::default()
        };
        let (with, without) = (again.reader().range(&request), store.reader().range(&request));
        assert_eq!(format!("{with:?}"), format!("{without:?}"), "at {revision}");
    }
}

/// Blocks of a kind, a length and a payload each.
fn write_blocks(place: &Place, mut bytes: &[u8]) {
    let created = blocks::Writer::create(&place.disk, &place.image_path());
    let mut file = created.expect("the disk is well");
    while let [kind, low, high, rest @ ..] = bytes {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (payload, rest) = rest.split_at(length);
        file.put(*kind % 8 + 1, &[payload]).expect("the disk is well");
        bytes = rest;
    }
    file.finish().expect("the disk is well");
}
