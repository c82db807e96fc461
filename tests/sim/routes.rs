//! What the network does with what it is given.

use std::time::Duration;

use bytes::Bytes;
use kvorum::node::Outgoing;
use kvorum::raft::{Message, MessageType};
use kvorum::sim::{Mark, mark};
use tokio::sync::{mpsc, oneshot};

use super::network::{Question, Sent};
use super::world::{Happening, World};

/// For how long a state that breaks off may seem to go on where it arrives.
const LINGERS: Duration = Duration::from_secs(4);

impl World {
    pub fn seat_of(&self, id: u64) -> Option<usize> {
        self.seats.iter().position(|seat| seat.id == id)
    }

    fn is_cut(&self, from: u64, to: u64) -> bool {
        self.wire.lock().cut.contains(&(from, to))
    }

    /// How long something takes from one member to another.
    fn latency_us(&mut self) -> u64 {
        let jitter = self.profile.jitter_us;
        // Short ways are more frequent than long ones.
        let extra = self.seed.below(jitter + 1) * self.seed.below(1000) / 1000;
        self.profile.latency_us + extra
    }

    pub fn route(&mut self, from: u64, sent: Sent) {
        match sent {
            Sent::Message(message) => self.send(from, message),
            Sent::Snapshot(message, state) => self.send_snapshot(from, message, state),
            Sent::Question { to, question } => {
                let at = self.now_us + self.latency_us();
                self.plan(at, Happening::Ask { from, to, question });
            }
        }
    }

    fn send(&mut self, from: u64, message: Message) {
        let to = message.to;
        if self.is_cut(from, to) || self.seed.below(1000) < self.profile.lost {
            // A sender may notice, or not.
            if self.seed.below(4) == 0
                && let Some(seat) = self.seat_of(from)
                && let Some(process) = &self.seats[seat].process
            {
                process.services.node.unreachable(to);
                self.touch(Some(seat));
            }
            return;
        }
        // A proposal has no number by which it would be known again; connections double nothing,
        // and raft relies on that.
        let once = message.msg_type() == MessageType::MsgPropose;
        if !once && self.seed.below(1000) < self.profile.doubled {
            let at = self.now_us + self.latency_us();
            self.plan(at, Happening::Deliver(Box::new(message.clone())));
        }
        let mut at = self.now_us + self.latency_us();
        if self.profile.in_order {
            let last = self.last_arrival.entry((from, to)).or_default();
            at = at.max(*last + 1);
            *last = at;
        }
        self.plan(at, Happening::Deliver(Box::new(message)));
    }

    pub fn deliver(&mut self, message: Message) {
        let (from, to) = (message.from, message.to);
        self.journal.mix(&[from, to, message.msg_type as u64, message.term, message.index]);
        if self.is_cut(from, to) {
            return;
        }
        let Some(seat) = self.seat_of(to) else { return };
        if let Some(process) = &self.seats[seat].process {
            let votes = message.msg_type() == MessageType::MsgRequestVoteResponse;
            let votes = votes && !message.reject;
            process.member.keep_time();
            // No room is a loss like any other.
            let _ = process.services.node.receive(message);
            if votes {
                self.strike_voter(from, seat);
            }
        } else if self.seed.coin()
            && let Some(sender) = self.seat_of(from)
            && let Some(process) = &self.seats[sender].process
        {
            process.services.node.unreachable(to);
            self.touch(Some(sender));
        }
    }

    fn send_snapshot(&mut self, from: u64, message: Message, mut state: Outgoing) {
        let to = message.to;
        let sender = self.seat_of(from).and_then(|seat| self.seats[seat].process.as_ref());
        let Some(sender) = sender.map(|process| process.life) else { return };
        let ends = self.snapshots_sent.clone();
        let index = message.get_snapshot().get_metadata().index;
        self.note(Some(sender.seat), "snapshot", format!("to {to:x} as of {index}"));
        self.sending.push(sender);
        if self.chaos && self.seed.below(3) == 0 {
            // Files are rewritten at one of the two ends.
            let receiver = self.seat_of(to).filter(|_| self.seed.coin());
            self.defragment(receiver.unwrap_or(sender.seat));
        }
        if let Some(process) = &self.seats[sender.seat].process
            && process.services.node.metrics().defrag_inflight.get() > 0
        {
            mark(Mark::DefragmentedBesideSnapshot);
        }
        let (pieces, chunks) = mpsc::channel(4);
        let (told, answer) = oneshot::channel();
        let cut = self.is_cut(from, to);
        let receiver = self.seat_of(to).and_then(|seat| self.seats[seat].process.as_ref());
        if let Some(receiver) = receiver.filter(|_| !cut) {
            let node = receiver.services.node.clone();
            let receive = async move {
                let _ = told.send(node.receive_snapshot(message, chunks).await);
            };
            self.tasks.spawn(Some(receiver.life), receive);
        }
        let pause = Duration::from_micros(self.latency_us());
        // Some break off on the way.
        let breaks = self.chaos && self.seed.below(3) == 0;
        let breaks_after = if breaks { self.seed.below(3) } else { u64::MAX };
        let lingers = self.seed.coin();
        let mut rot = self.rots_on_arrival(to);
        let travel = async move {
            let (mut bytes, mut count) = (0, 0);
            while let Some(Ok(piece)) = state.chunks.recv().await {
                tokio::time::sleep(pause).await;
                let strikes = rot.as_mut().is_some_and(|rot| rot.is_within(bytes, &piece));
                bytes += piece.len() as u64;
                count += 1;
                if count > breaks_after || pieces.send(Ok(piece)).await.is_err() {
                    break;
                }
                if let Some(rot) = rot.take_if(|_| strikes) {
                    // When it has been written.
                    tokio::time::sleep(pause).await;
                    rot.strike();
                }
            }
            if count > breaks_after && lingers {
                // The one end gives up before the other notices.
                ends.borrow_mut().push((sender, to, false));
                tokio::time::sleep(LINGERS).await;
                return;
            }
            let whole = bytes == state.bytes && count <= breaks_after;
            let arrived = whole && pieces.send(Ok(Bytes::new())).await.is_ok();
            drop(pieces);
            let arrived = arrived && matches!(answer.await, Ok(Ok(())));
            tokio::time::sleep(pause).await;
            ends.borrow_mut().push((sender, to, arrived));
        };
        self.tasks.spawn(None, travel);
    }

    /// Tells senders of states how that ended, and stops who has handed over.
    pub fn tell_ends(&mut self) {
        let ends = std::mem::take(&mut *self.snapshots_sent.borrow_mut());
        if !ends.is_empty() || !self.handed_over.borrow().is_empty() {
            self.touch(None);
        }
        for (life, to, arrived) in ends {
            if let Some(place) = self.sending.iter().position(|one| *one == life) {
                self.sending.remove(place);
            }
            self.note(Some(life.seat), "arrived", format!("at {to:x}: {arrived}"));
            if let Some(process) = &self.seats[life.seat].process
                && process.life == life
            {
                process.services.node.snapshot_sent(to, arrived);
            }
        }
        let ready = std::mem::take(&mut *self.handed_over.borrow_mut());
        for life in ready {
            if let Some(process) = &mut self.seats[life.seat].process
                && process.life == life
            {
                process.member.stop();
            }
        }
    }

    /// A question beside raft arrives.
    pub fn answer(&mut self, from: u64, to: u64, question: Question) {
        if self.is_cut(from, to) || self.is_cut(to, from) {
            return;
        }
        let back = Duration::from_micros(self.latency_us());
        let process = self.seat_of(to).and_then(|seat| self.seats[seat].process.as_ref());
        let Some(process) = process else { return };
        let (node, life) = (process.services.node.clone(), process.life);
        macro_rules! answer {
            ($reply:ident, $asked:expr) => {{
                let answering = async move {
                    let answer = $asked.await;
                    tokio::time::sleep(back).await;
                    let _ = $reply.send(answer);
                };
                self.tasks.spawn(Some(life), answering)
            }};
        }
        match question {
            Question::Renew(lease, reply) => {
                let renewed = async move {
                    let renewed = node.renew_here(lease).await;
                    if renewed.is_ok() {
                        mark(Mark::LeaseRenewedThroughFollower);
                    }
                    renewed
                };
                answer!(reply, renewed);
            }
            Question::TimeToLive(lease, keys, reply) => {
                answer!(reply, node.time_to_live_here(lease, keys));
            }
            Question::Promote(id, reply) => answer!(reply, node.promote_as_leader(id)),
            Question::HashKv(revision, reply) => answer!(reply, node.hash_kv(revision)),
        }
    }
}
