//! What booting decides before there is anything to boot.

use super::*;

#[test]
fn a_member_waits_for_its_disk_unless_told_not_to() {
    let waits = |unsafe_no_fsync| disk(&Config { unsafe_no_fsync, ..Config::default() }).syncs();
    assert!(waits(false));
    assert!(!waits(true));
}
