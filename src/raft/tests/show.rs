//! Raft's values in a line each.

use super::super::conf::Change;
use super::super::{ConfState, Entry, EntryType, Message, MessageType, Persist, Role, Standing};

pub fn standing(standing: &Standing) -> String {
    match (standing.role, standing.leader) {
        (Role::Leader, _) => format!("leader of term {}", standing.term),
        (Role::Follower, 0) => format!("without a leader in term {}", standing.term),
        (Role::Follower, leader) => format!("following {leader} in term {}", standing.term),
        (role, _) => format!("{role:?} in term {}", standing.term),
    }
}

pub fn conf_state(state: &ConfState) -> String {
    let learners = match state.learners.is_empty() {
        true => String::new(),
        false => format!(" learners={:?}", state.learners),
    };
    format!("voters={:?}{learners}", state.voters)
}

pub fn entry(entry: &Entry) -> String {
    let content = match entry.get_entry_type() {
        EntryType::EntryConfChange => match Change::decode(&entry.data) {
            Ok(change) => format!("{:?} {}", change.kind, change.node),
            Err(error) => error.to_string(),
        },
        _ if entry.data.is_empty() => "-".to_owned(),
        _ => String::from_utf8_lossy(&entry.data).into_owned(),
    };
    format!("{}@{} {content}", entry.index, entry.term)
}

fn entries(entries: &[Entry]) -> String {
    entries.iter().map(entry).collect::<Vec<_>>().join(", ")
}

pub fn persist(persist: &Persist) -> String {
    let hard_state = &persist.hard_state;
    let mut line = format!("#{}", persist.number);
    if let Some(snapshot) = &persist.snapshot {
        let metadata = snapshot.get_metadata();
        line += &format!(" snapshot {}@{}", metadata.index, metadata.term);
    }
    let entries = entries(&persist.entries);
    let (term, vote, commit) = (hard_state.term, hard_state.vote, hard_state.commit);
    line + &format!(" [{entries}] term={term} vote={vote} commit={commit}")
}

pub fn message(message: &Message) -> String {
    let kind = message.get_msg_type();
    let mut line = format!("{}→{} {kind:?}", message.from, message.to);
    let mut add = |text: String| {
        line.push(' ');
        line.push_str(&text);
    };
    if message.term != 0 {
        add(format!("term={}", message.term));
    }
    match kind {
        MessageType::MsgSnapshot => {
            let metadata = message.get_snapshot().get_metadata();
            let state = conf_state(metadata.get_conf_state());
            add(format!("{}@{} {state}", metadata.index, metadata.term));
        }
        MessageType::MsgAppend => add(format!("after {}@{}", message.index, message.log_term)),
        MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => {
            add(format!("last {}@{}", message.index, message.log_term));
        }
        MessageType::MsgAppendResponse if message.reject => add(format!(
            "rejects {}, hint {}@{}",
            message.index, message.reject_hint, message.log_term
        )),
        MessageType::MsgAppendResponse | MessageType::MsgReadIndexResp => {
            add(format!("index={}", message.index));
        }
        _ if message.reject => add("rejects".to_owned()),
        _ => {}
    }
    // A read's context is a number that the reader chose, not text.
    let is_read = matches!(kind, MessageType::MsgReadIndex | MessageType::MsgReadIndexResp);
    if !message.entries.is_empty() && !is_read {
        add(format!("[{}]", entries(&message.entries)));
    }
    if matches!(kind, MessageType::MsgAppend | MessageType::MsgHeartbeat) {
        add(format!("commit={}", message.commit));
    }
    if let Some(number) = message.context.last_chunk::<8>() {
        match kind {
            MessageType::MsgHeartbeat | MessageType::MsgHeartbeatResponse => {
                add(format!("read={}", u64::from_be_bytes(*number)));
            }
            _ => add(String::from_utf8_lossy(&message.context).into_owned()),
        }
    }
    line
}
