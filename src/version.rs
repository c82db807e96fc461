//! The versions kvorum speaks for: clients decide by them what they may ask.

use crate::error::Error;

/// The etcd version whose surface this is; kube-apiserver parses it to detect features.
pub const SERVER: &str = "3.7.3";
/// The cluster version a cluster of such members agrees on.
pub const CLUSTER: &str = "3.7.0";
/// The version of etcd's storage schema the rows follow.
pub const STORAGE: &str = "3.7.0";
/// The minor version of a cluster of such members, as downgrade answers spell it.
pub const MINOR: &str = "3.7";
/// kvorum's own version.
pub const KVORUM: &str = env!("CARGO_PKG_VERSION");

/// Whether a cluster of this version may go down to `target`, given as `X.Y` or `X.Y.Z`.
pub fn may_downgrade_to(target: &str) -> Result<(), Error> {
    let parts: Vec<Option<u32>> = target.split('.').map(|part| part.parse().ok()).collect();
    match parts[..] {
        [Some(major), Some(minor)] | [Some(major), Some(minor), Some(_)] => {
            // One minor version at a time, and nothing before 3.7's predecessor.
            if (major, minor) == (3, 6) {
                Ok(())
            } else {
                Err(Error::InvalidDowngradeTargetVersion)
            }
        }
        _ => Err(Error::WrongDowngradeVersionFormat),
    }
}
