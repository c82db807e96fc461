//! The machine as an engine holds it: every small table into its book, leases onto their keys.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use crate::alarm::Alarms;
use crate::error::Fault;
use crate::lease::Book;
use crate::members::Members;
use crate::mvcc::Store;
use crate::raft::ConfState;
use crate::storage::engine::{Engine, Table, View};
use crate::storage::keys;

use super::{Applied, Machine, Settings};

pub(super) fn open(engine: Arc<dyn Engine>, settings: Settings) -> Result<Machine, Fault> {
    let view = engine.view()?;
    let (mut alarms, mut members, mut leases) =
        (Alarms::default(), Members::default(), Book::default());
    rows(&*view, Table::Alarm, &mut |key, _| alarms.load(key))?;
    rows(&*view, Table::Members, &mut |key, value| members.load(Table::Members, key, value))?;
    rows(&*view, Table::MembersRemoved, &mut |key, value| {
        members.load(Table::MembersRemoved, key, value)
    })?;
    rows(&*view, Table::Lease, &mut |key, value| leases.load(key, value))?;
    let applied = Applied {
        index: number(&*view, keys::CONSISTENT_INDEX)?,
        term: number(&*view, keys::TERM)?,
    };
    let conf_state = match view.get(Table::Meta, keys::CONF_STATE)? {
        Some(value) => conf_state(keys::ConfState::decode(&value)?),
        None => ConfState::default(),
    };
    let cluster_version = match view.get(Table::Cluster, keys::CLUSTER_VERSION)? {
        Some(value) => {
            let text = keys::decode_text(Table::Cluster, keys::CLUSTER_VERSION, &value)?;
            Some(text.to_owned())
        }
        None => None,
    };
    drop(view);
    let store = Store::open(engine)?;
    Ok(Machine {
        settings,
        store,
        leases,
        alarms,
        members,
        cluster_version,
        conf_state,
        applied,
        writes: Vec::new(),
    })
}

fn number(view: &dyn View, key: &'static [u8]) -> Result<u64, Fault> {
    match view.get(Table::Meta, key)? {
        Some(value) => keys::decode_u64(Table::Meta, key, &value),
        None => Ok(0),
    }
}

/// Feeds every row of a small table to its book.
fn rows(
    view: &dyn View,
    table: Table,
    load: &mut dyn FnMut(&[u8], &[u8]) -> Result<(), String>,
) -> Result<(), Fault> {
    view.scan(table, &[], None, &mut |key, value| {
        load(key, value).map_err(|what| Fault::Corrupt {
            path: PathBuf::from(table.name()),
            offset: 0,
            what,
            advice: "Restore this member from a snapshot.",
        })?;
        Ok(ControlFlow::Continue(()))
    })
}

fn conf_state(stored: keys::ConfState) -> ConfState {
    ConfState {
        voters: stored.voters,
        learners: stored.learners,
        voters_outgoing: stored.voters_outgoing,
        learners_next: stored.learners_next,
        auto_leave: stored.auto_leave,
    }
}
