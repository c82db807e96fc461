//! What the member holds for each of its clients' connections, and how much that is for all.
//!
//! A request under way is held, and so is an answer that was not taken, in whatever queue it waits:
//! who asks for much, or reads nothing, makes others' memory its own. Bounds for one connection
//! are no bound for many, and a bound for all would let one take it from everybody. Therefore
//! everything is charged to its connection's [`Account`], and when all of them together reach the
//! bound, the connection that holds the most is closed. Whoever takes its answers holds next to
//! nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use slab::Slab;
use tokio::sync::Notify;

/// What an answer costs beside its bytes: its stream, its place in queues.
const ANSWER_BYTES: usize = 512;
/// Who holds more than one part in so many is closed when there is a quarter more than the bound,
/// for then those that are closing do not let go in time.
const MUCH: usize = 64;

/// The accounts of all connections. Clones share them.
#[derive(Clone, Debug)]
pub struct Accounts {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    bytes: AtomicUsize,
    bytes_max: usize,
    open: Mutex<Slab<Arc<Holder>>>,
}

/// What one connection has us hold.
#[derive(Debug, Default)]
struct Holder {
    bytes: AtomicUsize,
    closing: AtomicBool,
    close: Notify,
}

impl Accounts {
    /// Accounts that may come to so much together.
    pub fn new(bytes_max: usize) -> Self {
        let (bytes, open) = (AtomicUsize::new(0), Mutex::default());
        Self { shared: Arc::new(Shared { bytes, bytes_max, open }) }
    }

    /// The account of a new connection.
    pub fn open(&self) -> Account {
        let holder = Arc::new(Holder::default());
        let number = self.shared.open.lock().insert(holder.clone());
        Account { inner: Arc::new(Inner { shared: self.shared.clone(), holder, number }) }
    }

    /// What is held for all of them.
    pub fn bytes(&self) -> usize {
        self.shared.bytes.load(Ordering::Relaxed)
    }
}

/// The account of one connection, open while anybody has a clone.
#[derive(Clone, Debug)]
pub struct Account {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    holder: Arc<Holder>,
    number: usize,
}

impl Account {
    /// Notes that so much is held for this connection, until what is returned is dropped.
    pub fn charge(&self, bytes: usize) -> Charge {
        let Inner { shared, holder, .. } = &*self.inner;
        holder.bytes.fetch_add(bytes, Ordering::Relaxed);
        let before = shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > shared.bytes_max {
            shared.relieve();
        }
        Charge { shared: shared.clone(), holder: holder.clone(), bytes }
    }

    /// A piece of an answer, charged for as long as anybody has some of it.
    pub fn hold(&self, piece: Bytes) -> Bytes {
        let charge = self.charge(piece.len() + ANSWER_BYTES);
        Bytes::from_owner(Held { piece, _charge: charge })
    }

    /// Whether this connection holds too much and is to be closed: nothing more is done for it.
    pub fn closes(&self) -> bool {
        self.inner.holder.closes()
    }

    /// Returns when this connection holds too much and is to be closed.
    pub async fn overdrawn(&self) {
        self.inner.holder.close.notified().await;
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.open.lock().remove(self.number);
    }
}

impl Shared {
    /// Has the connection closed that holds the most. One is enough for now: whoever asks for more
    /// looks again.
    fn relieve(&self) {
        // Who looks already does it for all.
        let Some(open) = self.open.try_lock() else { return };
        let (mut staying, mut largest) = (0, None);
        for (_, holder) in open.iter().filter(|(_, holder)| !holder.closes()) {
            let bytes = holder.bytes.load(Ordering::Relaxed);
            staying += bytes;
            if largest.is_none_or(|(most, _)| bytes > most) {
                largest = Some((bytes, holder));
            }
        }
        // What is held for those that are closing is as good as gone, unless that takes long.
        if let Some((_, holder)) = largest.filter(|_| staying > self.bytes_max) {
            holder.close();
        }
        if self.bytes.load(Ordering::Relaxed) > self.bytes_max / 4 * 5 {
            let much = self.bytes_max / MUCH;
            let holders = open.iter().map(|(_, holder)| holder);
            holders
                .filter(|one| one.bytes.load(Ordering::Relaxed) > much)
                .for_each(|one| one.close());
        }
    }
}

impl Holder {
    fn close(&self) {
        if !self.closing.swap(true, Ordering::Relaxed) {
            self.close.notify_one();
        }
    }

    fn closes(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }
}

/// Something held for a connection.
#[derive(Debug)]
pub struct Charge {
    shared: Arc<Shared>,
    holder: Arc<Holder>,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.holder.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.shared.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A piece of an answer and its charge.
struct Held {
    piece: Bytes,
    _charge: Charge,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.piece
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn is_overdrawn(account: &Account) -> bool {
        tokio::time::timeout(Duration::ZERO, account.overdrawn()).await.is_ok()
    }

    #[tokio::test]
    async fn who_holds_the_most_is_closed_and_nobody_else() {
        let accounts = Accounts::new(100);
        let (small, large, middle) = (accounts.open(), accounts.open(), accounts.open());
        let (first, second, third) = (small.charge(1), large.charge(60), middle.charge(39));
        assert!(!is_overdrawn(&large).await, "the bound may be reached");
        let more = small.charge(1);
        assert!(is_overdrawn(&large).await && !is_overdrawn(&small).await);
        // While it closes, what it holds is laid to nobody else.
        let again = small.charge(20);
        assert!(!is_overdrawn(&middle).await && !is_overdrawn(&small).await);
        drop(second);
        let too_much = small.charge(45);
        assert!(!is_overdrawn(&middle).await && is_overdrawn(&small).await);
        drop((first, third, more, again, too_much));
        assert_eq!(accounts.bytes(), 0);
    }

    #[tokio::test]
    async fn all_who_hold_much_are_closed_when_closing_takes_too_long() {
        let accounts = Accounts::new(6400);
        let attackers: Vec<_> = (0..10).map(|_| accounts.open()).collect();
        let honest = accounts.open();
        let mut charges = vec![honest.charge(100)];
        for _ in 0..8 {
            charges.extend(attackers.iter().map(|one| one.charge(101)));
        }
        assert!(attackers.iter().all(Account::closes), "nothing was given back");
        assert!(!honest.closes());
    }

    #[tokio::test]
    async fn an_answer_is_held_until_its_last_piece_is_dropped() {
        let accounts = Accounts::new(10_000);
        let account = accounts.open();
        let piece = account.hold(Bytes::from(vec![7; 1000]));
        let rest = piece.slice(500..);
        drop(piece);
        assert_eq!(accounts.bytes(), 1000 + ANSWER_BYTES);
        assert_eq!(rest, vec![7; 500]);
        drop((rest, account));
        assert_eq!(accounts.bytes(), 0);
    }
}
