//! Block files: what was written reads back, and nothing else does.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::storage::disk::SimDisk;

const PATH: &str = "/state/image";

fn disk() -> Arc<dyn Disk> {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    disk.create_dir(Path::new("/state")).expect("a directory can be made");
    disk
}

fn write(disk: &Arc<dyn Disk>, blocks: &[(u8, Vec<u8>)]) {
    let mut writer = Writer::create(disk, Path::new(PATH)).expect("a file can be made");
    for (kind, payload) in blocks {
        let (front, back) = payload.split_at(payload.len() / 3);
        writer.put(*kind, &[front, back]).expect("a block can be written");
    }
    writer.finish().expect("a file can be finished");
}

fn read(disk: &Arc<dyn Disk>) -> Result<Vec<(u8, Vec<u8>)>, Fault> {
    let mut reader = Reader::open(&**disk, Path::new(PATH))?.expect("there is a file");
    let mut blocks = Vec::new();
    while let Some((kind, payload)) = reader.next_block()? {
        blocks.push((kind, payload.to_vec()));
    }
    Ok(blocks)
}

fn is_damage(read: &Result<Vec<(u8, Vec<u8>)>, Fault>) -> bool {
    matches!(read, Err(Fault::Corrupt { .. }))
}

fn blocks() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let payload = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        (any::<u8>(), 0usize..700_000).prop_map(|(byte, len)| vec![byte; len]),
    ];
    proptest::collection::vec((1u8..5, payload), 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_written_reads_back(first in blocks(), second in blocks()) {
        let disk = disk();
        write(&disk, &first);
        prop_assert_eq!(read(&disk).expect("a whole file reads"), first);
        write(&disk, &second);
        prop_assert_eq!(read(&disk).expect("a whole file reads"), second);
    }

    #[test]
    fn damage_is_told(blocks in blocks(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let disk = disk();
        write(&disk, &blocks);
        let file = disk.open(Path::new(PATH)).expect("it exists");
        let length = file.len().expect("it has a length") as usize;
        let at = at.index(length) as u64;
        let mut byte = [0];
        file.read_at(at, &mut byte).expect("it can be read");
        file.write_at(at, &[byte[0] ^ 1 << bit]).expect("it can be written");
        prop_assert!(is_damage(&read(&disk)));
        file.write_at(at, &byte).expect("it can be written");
        file.set_len(at).expect("it can be cut");
        prop_assert!(is_damage(&read(&disk)));
    }
}

#[test]
fn giving_up_leaves_the_old_file() {
    let disk = disk();
    assert!(Reader::open(&*disk, Path::new(PATH)).expect("none is no fault").is_none());
    write(&disk, &[(1, b"old".to_vec())]);
    let mut writer = Writer::create(&disk, Path::new(PATH)).expect("a file can be made");
    writer.put(2, &[b"new"]).expect("a block can be written");
    writer.give_up();
    assert_eq!(read(&disk).expect("a whole file reads"), [(1, b"old".to_vec())]);
    assert_eq!(disk.list(Path::new("/state")).expect("it is a directory").len(), 1);
}
