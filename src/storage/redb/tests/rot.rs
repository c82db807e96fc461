//! Bits that flip in the file: found, or without effect, never served.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::storage::disk::SimDisk;
use crate::storage::disk::sim::{Crash, Seed};
use crate::storage::engine::conformance::{Rows, contents};

const PATH: &str = "/db";

/// What became of a read of everything.
#[derive(Debug, PartialEq)]
enum Outcome {
    Same,
    Fault,
    Panic,
}

fn read_all(disk: &SimDisk, expected: &[Rows]) -> Outcome {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let read = catch_unwind(AssertUnwindSafe(|| -> Result<(), Fault> {
        let engine = Redb::open(&disk, Path::new(PATH), 1 << 20)?;
        let view = engine.view()?;
        for (table, rows) in Table::ALL.into_iter().zip(expected) {
            // By key, as a reader does who knows from its index what is there.
            let keys: Vec<&[u8]> = rows.iter().map(|(key, _)| &key[..]).collect();
            view.get_each(table, &keys, &mut |at, value| match value {
                Some(value) => {
                    assert_eq!(value, &rows[at].1[..], "a wrong value was served");
                    Ok(())
                }
                None => Err(Fault::row(table.name(), keys[at], "it is gone")),
            })?;
        }
        Ok(())
    }));
    match read {
        Ok(Ok(())) => Outcome::Same,
        Ok(Err(_)) => Outcome::Fault,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
            assert!(!text.contains("a wrong value was served"), "{text}");
            Outcome::Panic
        }
    }
}

#[test]
fn a_flipped_bit_is_never_served() {
    let disk = SimDisk::new(1);
    let seam: Arc<dyn Disk> = Arc::new(disk.clone());
    let engine = Redb::open(&seam, Path::new(PATH), 1 << 20).unwrap();
    (0..4).for_each(|n| engine.commit(&rows(n * 500..(n + 1) * 500)).unwrap());
    engine.commit(&[put(Table::Auth, "big", vec![9; 50_000])]).unwrap();
    engine.commit(&deletes(300..600)).unwrap();
    let expected = contents(&*engine.view().unwrap());
    drop(engine);
    assert_eq!(read_all(&disk, &expected), Outcome::Same);
    disk.crash(Crash::KeepAll);
    let length = disk.open(Path::new(PATH)).unwrap().len().unwrap();
    let mut seed = Seed::new(3);
    let mut outcomes = [0; 3];
    for _ in 0..600 {
        let rotten = disk.fork();
        let offset = seed.below(length);
        rotten.flip(Path::new(PATH), offset, 1 << seed.below(8)).unwrap();
        outcomes[read_all(&rotten, &expected) as usize] += 1;
    }
    let [same, fault, panic] = outcomes;
    println!("{same} without effect, {fault} found, {panic} panics, of 600");
    assert!(fault > 200, "{fault} of 600 flips found");
}
