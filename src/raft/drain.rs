//! raft-rs's log lines, poured from slog into tracing at debug level.
//!
//! What an operator should hear about roles and members is said by the driver, once and in our own
//! words; raft-rs's lines are for whoever debugs an election.

use std::fmt::{self, Write as _};

use ::slog::{Drain, KV, Key, Level, Logger, Never, OwnedKVList, Record, Serializer, o};

/// A logger for raft-rs.
pub(super) fn logger() -> Logger {
    Logger::root(Tracing, o!())
}

struct Tracing;

impl Drain for Tracing {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        if !tracing::enabled!(target: "raft", tracing::Level::DEBUG) {
            return Ok(());
        }
        let mut pairs = Pairs(String::new());
        // Writing into a string does not fail, and a lost log line would be no reason to stop.
        let _ = record.kv().serialize(record, &mut pairs);
        let _ = values.serialize(record, &mut pairs);
        match record.level() {
            Level::Trace => tracing::trace!(target: "raft", "{}{}", record.msg(), pairs.0),
            Level::Critical | Level::Error | Level::Warning | Level::Info | Level::Debug => {
                tracing::debug!(target: "raft", "{}{}", record.msg(), pairs.0);
            }
        }
        Ok(())
    }
}

/// Key-value pairs as ` key=value` each.
struct Pairs(String);

impl Serializer for Pairs {
    fn emit_arguments(&mut self, key: Key, value: &fmt::Arguments<'_>) -> ::slog::Result {
        write!(self.0, " {key}={value}").map_err(::slog::Error::from)
    }
}
