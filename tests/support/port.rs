//! Ports that nobody else takes between being found free and being listened on.
//!
//! A server is told its port before it binds it. Meanwhile the kernel could give that port to
//! whoever asks for any, and a script would talk to the wrong server. So ports come from below the
//! range the kernel hands out, and each is held by a UDP socket of the same number, which keeps
//! other tests away from it and is in no server's way.

use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

const FIRST: u16 = 10_000;
const COUNT: u32 = 10_000;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A port of loopback that is this test's as long as this lives.
pub struct Port {
    pub number: u16,
    _held: UdpSocket,
}

impl Port {
    /// The next port that is free.
    pub fn hold() -> io::Result<Self> {
        // Processes start at different places, so that they seldom meet.
        let start = std::process::id().wrapping_mul(997);
        for _ in 0..COUNT {
            let at = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
            let number = FIRST + u16::try_from(at).expect("the range fits");
            let Ok(held) = UdpSocket::bind((Ipv4Addr::LOCALHOST, number)) else { continue };
            if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Ok(Self { number, _held: held });
            }
        }
        Err(io::Error::other("no port is free"))
    }
}
