//! Raised alarms: which member complains of what.
//!
//! An alarm stays until somebody disarms it, also over restarts. Its row in the bucket `alarm` is
//! the encoded `AlarmMember` as the key and nothing as the value. Kinds are numbers: etcd stores
//! one it does not know, and so a newer client's alarm is not lost here.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message;

use crate::pb::{AlarmMember, AlarmType};
use crate::storage::engine::{Table, Write};

/// The alarms in force, ordered by kind and member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alarms {
    raised: BTreeSet<(i32, u64)>,
}

impl Alarms {
    /// Raises an alarm; the row to store, or nothing if it was raised already.
    pub fn raise(&mut self, kind: i32, member_id: u64) -> Option<Write> {
        let new = self.raised.insert((kind, member_id));
        new.then(|| Write::Put {
            table: Table::Alarm,
            key: row_key(kind, member_id),
            value: Bytes::new(),
        })
    }

    /// Disarms an alarm; the row to delete, or nothing if it was not raised.
    pub fn disarm(&mut self, kind: i32, member_id: u64) -> Option<Write> {
        let known = self.raised.remove(&(kind, member_id));
        known.then(|| Write::Delete { table: Table::Alarm, key: row_key(kind, member_id) })
    }

    /// Whether any member raised this alarm.
    pub fn is_raised(&self, kind: AlarmType) -> bool {
        self.raised.iter().any(|(raised, _)| *raised == kind as i32)
    }

    /// Alarms of one kind, or all of them for kind 0.
    pub fn list(&self, kind: i32) -> Vec<AlarmMember> {
        self.raised
            .iter()
            .filter(|(raised, _)| kind == AlarmType::None as i32 || *raised == kind)
            .map(|&(alarm, member_id)| AlarmMember { member_id, alarm })
            .collect()
    }

    /// Takes in one stored row.
    pub fn load(&mut self, key: &[u8]) -> Result<(), String> {
        let alarm = AlarmMember::decode(key).map_err(|error| format!("an alarm row: {error}"))?;
        self.raised.insert((alarm.alarm, alarm.member_id));
        Ok(())
    }
}

fn row_key(kind: i32, member_id: u64) -> Bytes {
    AlarmMember { member_id, alarm: kind }.encode_to_vec().into()
}
