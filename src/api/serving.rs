//! Whether this member serves, as gRPC's health service tells it to whoever waits for changes.
//!
//! It serves from the moment its listeners answer. It does not while something [holds](Held) it,
//! and no more once it [leaves](Serving::leave).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::watch;
use tokio_stream::Stream;

/// How long those who wait are given to hear that the member leaves. Only who does not read what
/// was sent before takes as long.
const LEAVE_PATIENCE: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, Default)]
struct State {
    holds: usize,
    leaves: bool,
}

impl State {
    fn serves(self) -> bool {
        self.holds == 0 && !self.leaves
    }
}

/// A member's word on whether it serves. Clones share it.
#[derive(Clone, Debug)]
pub struct Serving {
    state: Arc<watch::Sender<State>>,
    /// Whoever has yet to hear that the member leaves has a receiver of this.
    unaware: Arc<watch::Sender<()>>,
    /// Whether a defragmentation holds it, as etcd's gate `StopGRPCServiceOnDefrag` wants it.
    defragmenting_holds: bool,
}

impl Serving {
    /// A member that serves.
    pub fn new(defragmenting_holds: bool) -> Self {
        let (state, unaware) =
            (Arc::new(watch::Sender::default()), Arc::new(watch::Sender::new(())));
        Self { state, unaware, defragmenting_holds }
    }

    /// Whether the member serves now.
    pub fn now(&self) -> bool {
        self.state.borrow().serves()
    }

    /// Whether it serves, now and after every change. It does not end.
    pub(super) fn changes(&self) -> Changes {
        let mut state = self.state.subscribe();
        state.mark_changed();
        let unaware = Some(self.unaware.subscribe());
        Changes { next: next(state), told: None, unaware }
    }

    /// A defragmentation begins; it ends with what is returned.
    pub(super) fn defragmenting(&self) -> Option<Held> {
        self.defragmenting_holds.then(|| {
            self.state.send_modify(|state| state.holds += 1);
            tracing::warn!(reason = "defrag is active", "the member says that it does not serve");
            Held(self.state.clone())
        })
    }

    /// The member serves no more; returns when all who wait for changes were told.
    pub async fn leave(&self) {
        self.state.send_modify(|state| state.leaves = true);
        let told = tokio::time::timeout(LEAVE_PATIENCE, self.unaware.closed()).await;
        if told.is_err() {
            tracing::warn!("somebody who waits for news of this member's health does not hear it");
        }
    }
}

/// While this lives, the member does not serve.
pub(super) struct Held(Arc<watch::Sender<State>>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.send_modify(|state| state.holds -= 1);
    }
}

type Next = Pin<Box<dyn Future<Output = Option<watch::Receiver<State>>> + Send>>;

fn next(mut state: watch::Receiver<State>) -> Next {
    Box::pin(async move { state.changed().await.is_ok().then_some(state) })
}

/// Whether the member serves, whenever that changes.
pub(super) struct Changes {
    next: Next,
    told: Option<bool>,
    unaware: Option<watch::Receiver<()>>,
}

impl Stream for Changes {
    type Item = bool;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<bool>> {
        loop {
            let Some(mut receiver) = ready!(self.next.as_mut().poll(context)) else {
                return Poll::Ready(None);
            };
            let state = *receiver.borrow_and_update();
            self.next = next(receiver);
            if state.leaves {
                self.unaware = None;
            }
            if self.told.replace(state.serves()) != Some(state.serves()) {
                return Poll::Ready(self.told);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn changes_are_told_and_nothing_else() {
        let serving = Serving::new(true);
        let mut changes = serving.changes();
        assert_eq!(changes.next().await, Some(true));
        let (first, second) = (serving.defragmenting(), serving.defragmenting());
        assert_eq!(changes.next().await, Some(false));
        drop(first);
        assert!(!serving.now());
        drop(second);
        assert_eq!(changes.next().await, Some(true));
        assert_eq!(serving.changes().next().await, Some(true));
    }

    #[tokio::test]
    async fn a_member_leaves_when_everybody_has_heard_it() {
        let serving = Serving::new(false);
        assert!(serving.defragmenting().is_none());
        let (mut changes, gone) = (serving.changes(), serving.changes());
        changes.next().await;
        drop(gone);
        let leaving = serving.leave();
        tokio::pin!(leaving);
        let early = ends_within(&mut leaving, Duration::ZERO).await;
        assert!(!early, "somebody has not heard it");
        assert_eq!(changes.next().await, Some(false));
        assert!(ends_within(&mut leaving, LEAVE_PATIENCE * 100).await);
        // It is not taken back, and who comes now hears nothing else.
        assert_eq!(serving.changes().next().await, Some(false));
        assert!(!serving.now());
    }

    /// Whether something ends in time.
    async fn ends_within(future: impl Future<Output = ()>, patience: Duration) -> bool {
        tokio::time::timeout(patience, future).await.is_ok()
    }
}
