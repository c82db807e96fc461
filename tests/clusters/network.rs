//! The network between members: a relay before each, which holds, delays or cuts what passes.
//!
//! ```text
//! member a ──dials──▶ relay of b ──dials──▶ member b
//! ```
//!
//! - A relay has its port before its member starts, so that members know of each other; while its
//!   member is down the port is kept and callers are refused, as by a kernel whose process died.
//! - Who calls says the head of the first request. From then on each of a connection's directions
//!   is ruled by who speaks and who hears, so that a cut may go one way.
//! - What is held is delivered when the hold ends: a kernel would have repeated it.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::net::Shutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::support::port::Port;

/// Pieces on their way in one direction; when there are more, the speaker has to wait.
const PIECES_MAX: usize = 256;
const PIECE_BYTES: usize = 64 * 1024;
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// What becomes of the bytes that one member sends another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rule {
    #[default]
    Pass,
    /// They arrive so much later.
    Delay(Duration),
    /// They do not arrive, and nobody is told.
    Hold,
    /// Connections that would carry them are closed, and new ones too, once they say whose they
    /// are.
    Close,
}

/// Rules by who speaks and who hears.
#[derive(Clone, Debug, Default)]
struct Rules {
    by_pair: BTreeMap<(u64, u64), Rule>,
}

impl Rules {
    fn of(&self, speaker: u64, hearer: u64) -> Rule {
        self.by_pair.get(&(speaker, hearer)).copied().unwrap_or_default()
    }
}

/// What holds for all relays of a cluster, and what they saw.
#[derive(Clone)]
pub struct Network {
    shared: Arc<Shared>,
}

struct Shared {
    rules: watch::Sender<Rules>,
    /// After how many bytes the next snapshots that are sent are cut, the first one first.
    cuts: Mutex<Vec<usize>>,
    snapshots_sent: AtomicU64,
    snapshots_cut: AtomicU64,
}

impl Network {
    pub fn new() -> Self {
        let (rules, _) = watch::channel(Rules::default());
        let (snapshots_sent, snapshots_cut) = (AtomicU64::new(0), AtomicU64::new(0));
        let shared = Shared { rules, cuts: Mutex::default(), snapshots_sent, snapshots_cut };
        Self { shared: Arc::new(shared) }
    }

    /// Rules what `speaker` sends `hearer`.
    pub fn rule(&self, speaker: u64, hearer: u64, rule: Rule) {
        self.shared.rules.send_modify(|rules| {
            rules.by_pair.insert((speaker, hearer), rule);
        });
    }

    /// Lets everything pass.
    pub fn heal(&self) {
        self.shared.rules.send_replace(Rules::default());
    }

    /// Cuts the next snapshots that are sent, each after so many bytes of its request.
    pub fn cut_snapshots(&self, after_bytes: &[usize]) {
        *self.shared.cuts.lock() = after_bytes.to_vec();
    }

    /// How many snapshots were begun to be sent, and how many of them were cut.
    pub fn snapshots(&self) -> (u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.shared.snapshots_sent), read(&self.shared.snapshots_cut))
    }
}

/// The port that others know a member by.
pub struct Relay {
    port: Port,
    network: Network,
    accepting: Option<JoinHandle<()>>,
}

impl Relay {
    /// A relay that refuses callers.
    pub fn hold(network: &Network) -> Self {
        let port = Port::hold().expect("a free port");
        Self { port, network: network.clone(), accepting: None }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number)
    }

    /// Passes callers on to a member, wherever it listens.
    pub async fn open(&mut self, id: u64, target: u16) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port.number)).await;
        let listener = listener.expect("the port is ours");
        self.accepting = Some(tokio::spawn(accept(listener, self.network.clone(), id, target)));
    }

    /// Refuses callers, and closes all connections to the member.
    pub async fn shut(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            let _ = accepting.await;
        }
    }
}

async fn accept(listener: TcpListener, network: Network, id: u64, target: u16) {
    // Dropped with this task, it ends the connections.
    let mut connections = JoinSet::new();
    while let Ok((caller, _)) = listener.accept().await {
        let network = network.clone();
        connections.spawn(async move {
            // However it ends, both sides see it closed.
            let _ = relay(&network, &caller, id, target).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn relay(
    network: &Network,
    caller: &TcpStream,
    called_id: u64,
    target: u16,
) -> io::Result<()> {
    let head = read_head(caller).await?;
    let called = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await?;
    caller.set_nodelay(true)?;
    called.set_nodelay(true)?;
    let text = String::from_utf8_lossy(&head).to_lowercase();
    let from = text.lines().find_map(|line| line.strip_prefix("x-server-from:"));
    // A member that joins has no id yet, and no rule.
    let caller_id = from.and_then(|id| u64::from_str_radix(id.trim(), 16).ok()).unwrap_or(0);
    let mut cut = None;
    if text.starts_with("post /raft/snapshot ") {
        network.shared.snapshots_sent.fetch_add(1, Ordering::Relaxed);
        let mut cuts = network.shared.cuts.lock();
        cut = (!cuts.is_empty()).then(|| cuts.remove(0));
    }
    let rules = || network.shared.rules.subscribe();
    let forth = Direction { rules: rules(), pair: (caller_id, called_id), cut };
    let back = Direction { rules: rules(), pair: (called_id, caller_id), cut: None };
    let carried = async {
        let forth = forth.carry(head, caller, &called);
        tokio::try_join!(forth, back.carry(Vec::new(), &called, caller)).map(|_| ())
    };
    let mut closing = rules();
    let closed = closing.wait_for(|rules| {
        let either = [rules.of(caller_id, called_id), rules.of(called_id, caller_id)];
        either.contains(&Rule::Close)
    });
    tokio::select! {
        biased;
        _ = closed => Err(io::ErrorKind::ConnectionReset.into()),
        carried = carried => {
            if carried.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::QuotaExceeded) {
                network.shared.snapshots_cut.fetch_add(1, Ordering::Relaxed);
            }
            carried
        }
    }
}

/// Reads the first request's head, and what came with it.
async fn read_head(stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        match read(stream).await? {
            Some(piece) if head.len() < HEAD_BYTES_MAX => head.extend(piece),
            Some(_) | None => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
    Ok(head)
}

async fn read(stream: &TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        stream.readable().await?;
        match stream.try_read(&mut piece) {
            Ok(0) => return Ok(None),
            Ok(count) => {
                piece.truncate(count);
                return Ok(Some(piece));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn write(stream: &TcpStream, mut piece: &[u8]) -> io::Result<()> {
    while !piece.is_empty() {
        stream.writable().await?;
        match stream.try_write(piece) {
            Ok(count) => piece = &piece[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// One direction of a connection.
struct Direction {
    rules: watch::Receiver<Rules>,
    pair: (u64, u64),
    /// After how many bytes the connection is closed.
    cut: Option<usize>,
}

impl Direction {
    /// Carries what `from` sends, after what it has sent already, to its end.
    async fn carry(self, first: Vec<u8>, from: &TcpStream, to: &TcpStream) -> io::Result<()> {
        let (sender, pieces) = mpsc::channel(PIECES_MAX);
        let take = async move {
            if !first.is_empty() {
                let _ = sender.send((Instant::now(), first)).await;
            }
            while let Some(piece) = read(from).await? {
                let _ = sender.send((Instant::now(), piece)).await;
            }
            Ok(())
        };
        tokio::try_join!(take, self.deliver(pieces, to)).map(|_| ())
    }

    async fn deliver(
        mut self,
        mut pieces: mpsc::Receiver<(Instant, Vec<u8>)>,
        to: &TcpStream,
    ) -> io::Result<()> {
        while let Some((came, mut piece)) = pieces.recv().await {
            if let Rule::Delay(delay) = self.unheld().await {
                tokio::time::sleep_until(came + delay).await;
            }
            if let Some(left) = &mut self.cut {
                piece.truncate(*left);
                *left -= piece.len();
            }
            write(to, &piece).await?;
            if self.cut == Some(0) {
                return Err(io::ErrorKind::QuotaExceeded.into());
            }
        }
        // The end is held like everything else.
        self.unheld().await;
        Ok(rustix::net::shutdown(to, Shutdown::Write)?)
    }

    async fn unheld(&mut self) -> Rule {
        let (speaker, hearer) = self.pair;
        let rules = self.rules.wait_for(|rules| rules.of(speaker, hearer) != Rule::Hold).await;
        rules.map_or(Rule::Close, |rules| rules.of(speaker, hearer))
    }
}
