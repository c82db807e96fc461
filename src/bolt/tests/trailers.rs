//! The hash at the end of a saved snapshot.

use proptest::prelude::*;

use super::files::*;
use crate::bolt::trailer::{TRAILER_BYTES, Trailer, has_trailer, verify};

/// The sample as `snapshot save` writes it: in pieces, then the hash of all of them.
fn saved() -> Vec<u8> {
    let mut file = sample().bytes;
    let mut trailer = Trailer::default();
    file.chunks(1000).for_each(|piece| trailer.update(piece));
    file.extend(trailer.finish());
    file
}

#[test]
fn a_file_that_is_what_was_saved_is_taken() {
    let file = saved();
    assert_eq!(verify(&&file[..]).expect("it is whole"), file.len() as u64 - TRAILER_BYTES);
    assert!(has_trailer(file.len() as u64));
    assert_eq!(read(&file).expect("the hash is behind the last page"), {
        read(&sample().bytes).expect("it is sound")
    });
    for size_bytes in [0, 31, 33, 512, 4096, 4096 + 31, 4096 + 33] {
        assert!(!has_trailer(size_bytes), "{size_bytes}");
    }
}

/// In etcdutl's words, recorded: the hash of nothing, and 32 zeros that are not it.
#[test]
fn a_wrong_hash_is_shown_beside_the_right_one() {
    let error = verify(&&[0; 32][..]).expect_err("that is not the hash of nothing");
    let zeros = ["0"; 32].join(" ");
    let said = format!(
        "expected sha256 [{zeros}], got [227 176 196 66 152 252 28 20 154 251 244 200 153 111 185 \
         36 39 174 65 228 100 155 147 76 164 149 153 27 120 82 184 85]"
    );
    assert_eq!(error.to_string(), said);
    let cause = std::error::Error::source(&error).expect("nothing is no file").to_string();
    assert_eq!(cause, "file size too small 32");
}

#[test]
fn a_missing_hash_is_told_from_a_cut() {
    let whole = sample().bytes;
    let error = verify(&&whole[..]).expect_err("there is no hash");
    assert_eq!(error.to_string(), "snapshot missing hash but --skip-hash-check=false");
    assert!(std::error::Error::source(&error).is_none(), "the file itself is sound");
    assert!(error.advice().contains("--skip-hash-check"), "{}", error.advice());
    let cut = verify(&&whole[..whole.len() - 4096]).expect_err("a page is missing");
    assert_eq!(cut.to_string(), error.to_string());
    let cause = std::error::Error::source(&cut).expect("the file is cut").to_string();
    assert!(cause.starts_with("file is truncated: "), "{cause}");
    assert!(cut.advice().contains("cut off"), "{}", cut.advice());
}

#[test]
fn every_changed_bit_of_the_hash_is_noticed() {
    let file = saved();
    for bit in (file.len() - 32) * 8..file.len() * 8 {
        let mut file = file.clone();
        file[bit / 8] ^= 1 << (bit % 8);
        let error = verify(&&file[..]).expect_err("one of the two is not what it was");
        let only_the_hash = std::error::Error::source(&error).is_none();
        assert!(error.to_string().starts_with("expected sha256 [") && only_the_hash, "{error}");
        assert!(error.advice().starts_with("The file is not what was saved"));
    }
}

proptest! {
    #[test]
    fn every_change_is_noticed(
        flips in proptest::collection::vec(any::<prop::sample::Index>(), 1..4),
        bit in 0..8u8,
    ) {
        let mut file = saved();
        let offsets: std::collections::BTreeSet<usize> =
            flips.iter().map(|flip| flip.index(file.len())).collect();
        for offset in offsets {
            file[offset] ^= 1 << bit;
        }
        verify(&&file[..]).expect_err("it is not what was saved");
    }

    #[test]
    fn every_cut_is_noticed(length in any::<prop::sample::Index>()) {
        let file = saved();
        let length = length.index(file.len());
        verify(&&file[..length]).expect_err("it is not all that was saved");
    }
}

#[test]
fn a_cut_at_a_page_is_noticed_with_and_without_the_hash() {
    let file = saved();
    for length in (0..file.len() - 32).step_by(512) {
        for length in [length, length + 1, length + 32] {
            verify(&&file[..length]).expect_err("it is not all that was saved");
            let said = refusal(&file[..length]);
            let is_said = match length {
                0..2048 => said == format!("file size too small {length}"),
                2048..8192 => said.starts_with("file size too small"),
                _ => said.starts_with("file is truncated: "),
            };
            assert!(is_said, "{length}: {said}");
        }
    }
}
