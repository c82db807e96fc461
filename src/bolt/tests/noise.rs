//! Damage that nobody thought of: reading ends, in bounds, with rows or with a refusal.

use std::cell::Cell;

use proptest::prelude::*;

use super::files::*;
use super::golden;
use crate::bolt::format::{Meta, u64_at};
use crate::bolt::{Error, Reader, fuzz_read};

/// Reads whatever it is. No page is read twice, and nothing outside the file.
fn survives(bytes: &[u8]) -> Result<Tables, Error> {
    fuzz_read(bytes);
    let file = Metered { bytes, read_bytes: Cell::new(0) };
    let reader = Reader::open(&file)?;
    let end = reader.walk().finish();
    let page_bytes = u64::from(reader.meta().page_bytes);
    // Beyond the file: the metas, looked for at every page size, and a page refused for its place.
    let allowed = bytes.len() as u64 + page_bytes + 16 * 80;
    assert!(file.read_bytes.get() <= allowed, "{} bytes read", file.read_bytes.get());
    match end {
        Ok(_) => Ok(read(bytes).expect("it was just read").0),
        Err(error) => Err(error),
    }
}

/// Files to damage: ours, and each of the real ones.
fn files() -> Vec<Vec<u8>> {
    let real = golden::NAMES.into_iter().map(golden::file);
    std::iter::once(sample().bytes).chain(real).collect()
}

/// Where pages start that say they are the page there; others go on from the page before.
fn heads(file: &[u8]) -> Vec<usize> {
    let page_bytes = Reader::open(&file).expect("it is sound").meta().page_bytes as usize;
    let is_head = |at: &usize| u64_at(file, *at) == Some((at / page_bytes) as u64);
    (0..file.len()).step_by(page_bytes).filter(is_head).collect()
}

/// Whether all rows are of those.
fn is_part(part: &Tables, whole: &Tables) -> bool {
    part.iter().all(|(name, rows)| rows.iter().all(|(k, v)| whole[name].get(k) == Some(v)))
}

#[test]
fn every_bit_of_every_page_header_may_flip() {
    for good in files() {
        let expected = survives(&good).expect("it is sound");
        let mut refused = 0;
        for bit in heads(&good).into_iter().flat_map(|at| at * 8..(at + 16) * 8) {
            let mut file = good.clone();
            file[bit / 8] ^= 1 << (bit % 8);
            // It may be a page that nobody reads, or a count that leaves out the last rows; but
            // no row comes out changed.
            match survives(&file) {
                Ok(found) => assert!(is_part(&found, &expected), "bit {bit}"),
                Err(_) => refused += 1,
            }
        }
        assert!(refused > 100, "{refused} changes were noticed");
    }
}

/// A number that may matter in a place where it does not belong.
fn any_number() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..40u64,
        Just(0xffff),
        Just(u64::from(u32::MAX)),
        Just(u64::MAX),
        4000..4200u64,
        any::<u64>(),
    ]
}

/// One change to a file.
#[derive(Clone, Debug)]
enum Change {
    /// Bytes of a number, at a multiple of their count.
    Number {
        place: prop::sample::Index,
        width: usize,
        number: u64,
    },
    /// A field of both metas, with good checksums.
    Meta {
        field: u8,
        number: u64,
    },
    /// A sector of a quarter of a page over another one.
    Copy {
        from: prop::sample::Index,
        to: prop::sample::Index,
    },
    Flip {
        place: prop::sample::Index,
        bit: u8,
    },
    Cut {
        place: prop::sample::Index,
    },
}

fn any_change() -> impl Strategy<Value = Change> {
    let place = any::<prop::sample::Index>;
    prop_oneof![
        6 => (place(), prop_oneof![Just(2), Just(4), Just(8)], any_number())
            .prop_map(|(place, width, number)| Change::Number { place, width, number }),
        2 => (0..5u8, any_number()).prop_map(|(field, number)| Change::Meta { field, number }),
        2 => (place(), place()).prop_map(|(from, to)| Change::Copy { from, to }),
        2 => (place(), 0..8u8).prop_map(|(place, bit)| Change::Flip { place, bit }),
        1 => place().prop_map(|place| Change::Cut { place }),
    ]
}

impl Change {
    fn make(&self, file: &mut Vec<u8>) {
        match self {
            Change::Number { place, width, number } => {
                // Most numbers stand at the start of a page.
                let sectors = file.len() / 256;
                let start = place.index(sectors.max(1)) * 256;
                let at = start + (*number as usize % 64) / width * width;
                if let Some(to) = file.get_mut(at..at + width) {
                    to.copy_from_slice(&number.to_le_bytes()[..*width]);
                }
            }
            Change::Meta { field, number } => change_meta(file, *field, *number),
            Change::Copy { from, to } => {
                let sectors = file.len() / 1024;
                if sectors > 0 {
                    let (from, to) = (from.index(sectors) * 1024, to.index(sectors) * 1024);
                    file.copy_within(from..from + 1024, to);
                }
            }
            Change::Flip { place, bit } => {
                if !file.is_empty() {
                    let at = place.index(file.len());
                    file[at] ^= 1 << bit;
                }
            }
            Change::Cut { place } => file.truncate(place.index(file.len() + 1)),
        }
    }
}

fn change_meta(file: &mut [u8], field: u8, number: u64) {
    for at in [0, 1024, 4096] {
        let Some(Ok(mut meta)) = file.get(at..).map(Meta::decode) else { continue };
        match field {
            0 => meta.root = number,
            1 => meta.freelist = Some(number),
            2 => meta.high_water = number,
            3 => meta.transaction = number,
            _ => meta.page_bytes = number as u32,
        }
        let bytes = meta.encode(u64::from(at > 0));
        file[at..at + bytes.len()].copy_from_slice(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(2000),
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_damage_is_survived(
        which in 0..4usize,
        changes in proptest::collection::vec(any_change(), 1..6),
    ) {
        thread_local!(static FILES: Vec<Vec<u8>> = files());
        let mut file = FILES.with(|files| files[which].clone());
        for change in &changes {
            change.make(&mut file);
        }
        // Whether it is refused depends on the damage; that it returns is the point.
        let _ = survives(&file);
    }

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..9000)) {
        prop_assert!(survives(&bytes).is_err());
    }
}
