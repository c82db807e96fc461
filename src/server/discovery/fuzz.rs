//! The body of the fuzz target `dns_answer`.

use std::net::{Ipv4Addr, SocketAddr};

use super::{LookupError, read};
use crate::config::Url;

/// Reads `bytes` as what a DNS server answers to a question with their first two bytes. Whatever
/// they are, this returns; and every place that is found can be dialed.
pub fn fuzz_dns(bytes: &[u8]) {
    let Some(id) = bytes.first_chunk() else { return };
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, 53));
    match read(server, u16::from_be_bytes(*id), bytes) {
        Ok(places) => {
            let is_place = |place: &String| Url::parse(&format!("https://{place}")).is_ok();
            assert!(places.iter().all(is_place), "{places:?}");
        }
        Err(LookupError::Garbled { .. } | LookupError::Refused { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}
