//! What a connection's bytes go through: they are counted, and the last of them arrive.
//!
//! Whoever does not take what it is sent is not listened to either. It may have asked for much, and
//! each further question would have an answer wait in memory; answers that are headers alone, pongs
//! and acknowledgements have no other bound. No client is harmed that reads while it writes, as
//! HTTP/2 asks of all, and one that waits for its answer has nothing to say.
//!
//! A socket that is closed with something in it unread resets the connection. The peer that then
//! writes, an acknowledgement of its settings is enough, is told of the reset and gives up, and the
//! answers it has not read by then are lost. Therefore the end is said first, and what the peer
//! still sends is taken in and dropped until it hangs up too.

use std::future::Future as _;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use prometheus::IntCounter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long a peer may take to hang up once it is told of the end.
const FAREWELL_MAX: Duration = Duration::from_secs(1);
const DROPPED_BYTES: usize = 4096;
/// Reads after which others have their turn. HTTP/2 takes in all frames there are before it looks
/// at the first, and a few KiB may be hundreds of requests.
const READS_MAX: u32 = 2;

/// A stream that counts its bytes and waits at its end for the peer's.
pub(super) struct Wire<S> {
    stream: S,
    /// Whether the peer takes nothing for now, and who wanted to hear it meanwhile.
    full: bool,
    unheard: Option<Waker>,
    /// How many more reads before others have their turn.
    reads: u32,
    /// Received, sent.
    counters: Option<(IntCounter, IntCounter)>,
    /// Once the end is said: when it no longer matters that the peer heard it.
    farewell: Option<Pin<Box<Sleep>>>,
}

impl<S> Wire<S> {
    pub fn new(stream: S, counters: Option<(IntCounter, IntCounter)>) -> Self {
        Self { stream, full: false, unheard: None, reads: READS_MAX, counters, farewell: None }
    }

    fn sent(&mut self, polled: &Poll<io::Result<usize>>) {
        self.full = polled.is_pending();
        if !self.full
            && let Some(waker) = self.unheard.take()
        {
            waker.wake();
        }
        if let (Poll::Ready(Ok(count)), Some((_, sent))) = (polled, &self.counters) {
            sent.inc_by(*count as u64);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.full {
            self.unheard = Some(context.waker().clone());
            return Poll::Pending;
        }
        if self.reads == 0 {
            self.reads = READS_MAX;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.reads = if polled.is_ready() { self.reads - 1 } else { READS_MAX };
        if let Some((received, _)) = &self.counters {
            received.inc_by((buffer.filled().len() - before) as u64);
        }
        polled
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.sent(&polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.sent(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, farewell, .. } = &mut *self;
        if farewell.is_none() {
            ready!(Pin::new(&mut *stream).poll_shutdown(context))?;
        }
        let farewell = farewell.get_or_insert_with(|| Box::pin(sleep(FAREWELL_MAX)));
        // First: a peer that never stops sending must not keep the time from being looked at.
        if farewell.as_mut().poll(context).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut dropped = [MaybeUninit::uninit(); DROPPED_BYTES];
        loop {
            let mut buffer = ReadBuf::uninit(&mut dropped);
            let read = ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::time::Instant;

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// A wire over loopback, and its other end.
    fn pair() -> (Wire<tokio::net::TcpStream>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let peer = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        let (stream, _) = listener.accept().expect("the peer is there");
        stream.set_nonblocking(true).expect("a socket");
        (Wire::new(tokio::net::TcpStream::from_std(stream).expect("a socket"), None), peer)
    }

    #[tokio::test]
    async fn a_peer_reads_all_answers_though_it_was_not_read_to_its_end() {
        let (mut wire, mut peer) = pair();
        peer.write_all(b"nobody reads this").expect("the wire is there");
        wire.write_all(b"an answer").await.expect("the peer is there");
        let peer = tokio::task::spawn_blocking(move || {
            let mut heard = [0; 9];
            peer.read_exact(&mut heard).expect("the answer comes");
            // The end was said, and the peer may write all the same.
            assert_eq!(peer.read(&mut [0]).expect("not a reset"), 0);
            peer.write_all(b"nor this").expect("not a reset");
            heard
        });
        wire.shutdown().await.expect("the peer hangs up");
        drop(wire);
        assert_eq!(&peer.await.expect("no reset"), b"an answer");
    }

    #[tokio::test]
    async fn who_does_not_take_answers_is_not_listened_to_until_it_does() {
        use tokio::io::AsyncReadExt as _;

        let (wire, mut peer) = pair();
        let (mut reader, mut writer) = tokio::io::split(wire);
        // Longer than all that the kernel keeps for a peer.
        let answers = tokio::spawn(async move { writer.write_all(&vec![7; 64 << 20]).await });
        peer.write_all(b"more").expect("the wire is there");
        let mut heard = Vec::new();
        let (mut asked, mut unheard) = (4, false);
        while !unheard {
            let read = tokio::time::timeout(Duration::from_millis(50), reader.read_buf(&mut heard));
            unheard = read.await.is_err() && heard.len() < asked;
            if heard.len() == asked {
                peer.write_all(b"more").expect("the wire is there");
                asked += 4;
            }
        }
        let peer = tokio::task::spawn_blocking(move || {
            let mut taken = vec![0; 64 << 20];
            peer.read_exact(&mut taken).expect("all answers come");
            peer
        });
        while heard.len() < asked {
            assert_ne!(reader.read_buf(&mut heard).await.expect("it is heard"), 0);
        }
        answers.await.expect("a task").expect("the peer reads");
        drop(peer.await.expect("a task"));
    }

    #[tokio::test]
    async fn a_peer_that_does_not_hang_up_is_waited_for_only_so_long() {
        let (mut wire, peer) = pair();
        let since = Instant::now();
        wire.shutdown().await.expect("it ends");
        assert!(since.elapsed() >= FAREWELL_MAX);
        drop(peer);
    }

    #[tokio::test]
    async fn a_peer_that_never_stops_sending_is_waited_for_only_so_long() {
        let (mut wire, mut peer) = pair();
        let peer = std::thread::spawn(move || while peer.write_all(&[0; 4096]).is_ok() {});
        wire.shutdown().await.expect("it ends");
        drop(wire);
        peer.join().expect("the peer is told to stop");
    }
}
