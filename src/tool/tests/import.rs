//! Opening a snapshot: its hash, and going without.

use std::path::Path;

use super::{Scratch, collected};
use crate::bolt::tests::files::read;
use crate::bolt::tests::golden::{file, path};
use crate::tool::advice;
use crate::tool::import::{Options, read_snapshot};

const TRUSTING: Options = Options { skip_hash_check: true };

/// What is said of a file, when its hash is looked at and when it is not.
fn opened(path: &Path) -> [Result<(), String>; 2] {
    [Options::default(), TRUSTING]
        .map(|options| read_snapshot(path, options).map(drop).map_err(|error| error.to_string()))
}

#[test]
fn a_saved_snapshot_opens_either_way() {
    for name in ["tables", "tree"] {
        let path = path(&format!("{name}.db"));
        assert_eq!(opened(&path), [Ok(()), Ok(())]);
        let (expected, _) = read(&file(name)).expect("it is sound");
        let expected = expected.into_iter().filter(|(_, rows)| !rows.is_empty()).collect();
        for options in [Options::default(), TRUSTING] {
            let snapshot = read_snapshot(&path, options).expect("it opens either way");
            assert!(collected(snapshot.rows().expect("it is sound")) == expected, "{name}");
        }
    }
}

/// What etcdutl 3.7.3 refuses and takes, by the same flag, in the same words.
#[test]
fn a_hash_that_is_missing_or_wrong_can_be_gone_without() {
    let scratch = Scratch::new();
    let saved = file("tables");
    let body = &saved[..saved.len() - 32];
    let missing = "snapshot missing hash but --skip-hash-check=false";
    let without = scratch.file("without.db", body);
    assert_eq!(opened(&without), [Err(missing.to_owned()), Ok(())]);
    let grown = scratch.file("grown.db", &[body, &[0; 40_960]].concat());
    assert_eq!(opened(&grown), [Err(missing.to_owned()), Ok(())]);
    let error = read_snapshot(&without, Options::default()).expect_err("there is no hash");
    let said = advice(&error).expect("there is a flag for it");
    assert!(said.contains("--skip-hash-check"), "{said}");

    let mut other_hash = saved.clone();
    other_hash[saved.len() - 1] ^= 1;
    let mut other_bytes = saved.clone();
    other_bytes[9000] ^= 1;
    for bytes in [other_hash, other_bytes] {
        let wrong = scratch.file("wrong.db", &bytes);
        let [refused, taken] = opened(&wrong);
        let said = refused.expect_err("it is not what was saved");
        assert!(said.starts_with("expected sha256 [") && said.contains("], got ["), "{said}");
        assert_eq!(taken, Ok(()));
    }
}

#[test]
fn what_is_no_snapshot_is_refused_either_way() {
    let scratch = Scratch::new();
    let saved = file("tables");
    let missing = "snapshot missing hash but --skip-hash-check=false".to_owned();
    for (bytes, what) in [
        (vec![], "file size too small 0"),
        (vec![b'x'; 50_000], "invalid database"),
        (saved[..10_240].to_vec(), "file is truncated: 10240 bytes, 20480 needed"),
    ] {
        let path = scratch.file("bad.db", &bytes);
        assert_eq!(opened(&path), [Err(missing.clone()), Err(what.to_owned())]);
        // The hash is the least of it: the advice is for what is wrong.
        let told = [Options::default(), TRUSTING]
            .map(|options| advice(&read_snapshot(&path, options).expect_err("it is refused")));
        assert!(told[0].is_some() && told[0] == told[1], "{told:?}");
    }
    let nowhere = scratch.path("none.db");
    let said = format!("open {}: no such file or directory", nowhere.display());
    assert_eq!(opened(&nowhere), [Err(said.clone()), Err(said)]);
}
