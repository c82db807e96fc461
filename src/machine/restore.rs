//! The machine as an engine holds it: every small table into its book, leases onto their keys.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::alarm::Alarms;
use crate::error::{Failure, Fault};
use crate::lease::Book;
use crate::members::Members;
use crate::mvcc::{Facts, Image, State, Store, row::Fields};
use crate::span::{End, Span};
use crate::storage::engine::{Engine, Table, View};
use crate::storage::keys::{self, ConfState};

use super::{Applied, Machine, Settings};

pub(super) fn open(
    engine: Arc<dyn Engine>,
    settings: Settings,
    image: Option<Image>,
) -> Result<Machine, Fault> {
    let mut books = Books::load(&*engine.view()?)?;
    let store = Store::open_with(engine, image)?;
    attach(&store, &mut books.leases)?;
    Ok(books.around(store, settings))
}

/// Puts the state of another engine in place of a machine's, whose readers keep their handles.
pub(super) fn install(machine: &mut Machine, engine: Arc<dyn Engine>) -> Result<(), Fault> {
    let mut books = Books::load(&*engine.view()?)?;
    machine.store.restore(engine)?;
    attach(&machine.store, &mut books.leases)?;
    let Books { leases, alarms, members, cluster_version, conf_state, applied } = books;
    (machine.leases, machine.alarms, machine.members) = (leases, alarms, members);
    (machine.cluster_version, machine.conf_state) = (cluster_version, conf_state);
    machine.applied = applied;
    // They were on their way into a state that is no more.
    machine.writes.clear();
    Ok(())
}

/// Everything but the rows of `key`.
struct Books {
    leases: Book,
    alarms: Alarms,
    members: Arc<Members>,
    cluster_version: Option<String>,
    conf_state: ConfState,
    applied: Applied,
}

impl Books {
    fn load(view: &dyn View) -> Result<Self, Fault> {
        let (mut alarms, mut members, mut leases) =
            (Alarms::default(), Members::default(), Book::default());
        rows(view, Table::Alarm, &mut |key, _| alarms.load(key))?;
        rows(view, Table::Members, &mut |key, value| members.load(Table::Members, key, value))?;
        rows(view, Table::MembersRemoved, &mut |key, value| {
            members.load(Table::MembersRemoved, key, value)
        })?;
        view.scan(Table::Lease, &[], None, &mut |key, value| {
            leases.load(key, value)?;
            Ok(ControlFlow::Continue(()))
        })?;
        let applied = Applied {
            index: number(view, keys::CONSISTENT_INDEX)?,
            term: number(view, keys::TERM)?,
        };
        let conf_state = match view.get(Table::Meta, keys::CONF_STATE)? {
            Some(value) => ConfState::decode(&value)?,
            None => ConfState::default(),
        };
        let cluster_version = match view.get(Table::Cluster, keys::CLUSTER_VERSION)? {
            Some(value) => {
                let text = keys::decode_text(Table::Cluster, keys::CLUSTER_VERSION, &value)?;
                Some(text.to_owned())
            }
            None => None,
        };
        let members = Arc::new(members);
        Ok(Self { leases, alarms, members, cluster_version, conf_state, applied })
    }

    fn around(self, store: Store, settings: Settings) -> Machine {
        let Self { leases, alarms, members, cluster_version, conf_state, applied } = self;
        Machine {
            settings,
            store,
            leases,
            alarms,
            members,
            cluster_version,
            conf_state,
            applied,
            writes: Vec::new(),
        }
    }
}

/// Hangs the live keys on their leases, which only their rows name.
fn attach(store: &Store, leases: &mut Book) -> Result<(), Fault> {
    if leases.leases().len() == 0 {
        return Ok(());
    }
    let everything = Span { start: Bytes::new(), end: End::Open };
    let state = store.state();
    let mut leased = Vec::new();
    state.visit(&everything, &mut |_, facts| {
        leased.extend(facts.leased.then_some(facts));
        ControlFlow::Continue(())
    });
    // In the order they lie in the engine.
    leased.sort_unstable_by_key(|facts| facts.revision);
    leased.into_iter().try_for_each(|facts| attach_one(&state, facts, leases))
}

fn attach_one(state: &State<'_>, facts: Facts, leases: &mut Book) -> Result<(), Fault> {
    let row = state.row(facts).map_err(|failure| match failure {
        Failure::Fault(fault) => fault,
        Failure::Refused(error) => Fault::Broken(format!("a live row was refused: {error}")),
    })?;
    let fields = Fields::decode(&row)?;
    if fields.lease != 0 && leases.lease(fields.lease).is_some() {
        let key = Bytes::copy_from_slice(fields.key);
        leases.attach(key, fields.lease).expect("the lease was just seen");
    }
    Ok(())
}

fn number(view: &dyn View, key: &'static [u8]) -> Result<u64, Fault> {
    match view.get(Table::Meta, key)? {
        Some(value) => keys::decode_u64(Table::Meta, key, &value),
        None => Ok(0),
    }
}

/// Takes in the key and value of a row, or says what is wrong with it.
type Load<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), String> + 'a;

/// Feeds every row of a small table to its book.
fn rows(view: &dyn View, table: Table, load: &mut Load<'_>) -> Result<(), Fault> {
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
