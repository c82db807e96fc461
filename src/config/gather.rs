//! From the command line and the environment to [`Values`].
//!
//! The syntax is Go's: `-x` and `--x` are the same, a value follows after `=` or as the next
//! argument, a switch takes its value only after `=` and is true without one, and the first thing
//! that is no flag ends the flags. clap cannot be told to read `-name x`, `--pre-vote=T` or a
//! switch that eats no argument in this way, so the hundred lines are our own; the subcommands,
//! which are not etcd's, are clap's.
//!
//! - A variable counts only if it is not empty, and never against a flag: both at once is an error.
//! - Older names are turned into the newer ones here; nobody after this knows them.

use super::flag::{Flag, Kind, Status, parse_bool};
use super::gates::{self, Effect};
use super::notice::Notice;
use super::refusal::Refusal;
use super::table;
use super::values::{Given, Origin, Values};

/// What a command line asks for.
#[derive(Debug)]
pub enum Asked {
    Help,
    Version,
    Run(Values),
}

/// Reads the arguments after the program's name.
pub fn command_line(arguments: &[String]) -> Result<Asked, Refusal> {
    let mut values = Values::default();
    let mut version = false;
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument.len() < 2 || !argument.starts_with('-') {
            return Err(Refusal::Stray(argument.clone()));
        }
        if argument == "--" {
            match rest.next() {
                Some(stray) => return Err(Refusal::Stray(stray.clone())),
                None => break,
            }
        }
        let body = argument.strip_prefix("--").unwrap_or(&argument[1..]);
        if body.is_empty() || body.starts_with(['-', '=']) {
            return Err(Refusal::BadSyntax(argument.clone()));
        }
        let (name, value) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (body, None),
        };
        let Some(flag) = table::find(name) else {
            match name {
                "help" | "h" => return Ok(Asked::Help),
                "version" => {
                    version = parse_version(value)?;
                    continue;
                }
                _ => return Err(Refusal::UnknownFlag(name.to_owned())),
            }
        };
        let text = match value {
            Some(text) => text,
            None if flag.stands_alone() => "true".to_owned(),
            None => rest.next().cloned().ok_or(Refusal::NoArgument(flag.name))?,
        };
        flag.check(&text).map_err(|why| match flag.kind {
            Kind::Bool => Refusal::BadBool { flag: flag.name, value: text.clone() },
            _ => Refusal::BadValue { flag: flag.name, value: text.clone(), why },
        })?;
        values.insert(Given { flag, text, origin: Origin::CommandLine });
    }
    Ok(if version { Asked::Version } else { Asked::Run(values) })
}

fn parse_version(value: Option<String>) -> Result<bool, Refusal> {
    let value = value.unwrap_or_else(|| "true".to_owned());
    parse_bool(&value).ok_or(Refusal::BadBool { flag: "version", value })
}

/// The configuration file that a command line names, or else the environment.
pub fn file(values: &Values, variables: &[(String, String)]) -> Option<String> {
    let flag = table::find("config-file").expect("the table has it");
    let named = values.text(flag.name);
    let variable = variables.iter().find(|(name, _)| *name == flag.variable());
    let path = if named.is_empty() { variable.map_or("", |(_, path)| path) } else { named };
    (!path.is_empty()).then(|| path.to_owned())
}

/// Adds what the environment says, given as pairs of name and value.
pub fn environment(
    values: &mut Values,
    variables: &[(String, String)],
    notices: &mut Vec<Notice>,
) -> Result<(), Refusal> {
    for (variable, text) in variables {
        if !variable.starts_with("ETCD_") {
            continue;
        }
        let Some(flag) = table::flags().find(|flag| flag.variable() == *variable) else {
            notices.push(match &**variable {
                "ETCD_VERSION" => Notice::SpecialVariable(variable.clone()),
                _ => Notice::UnknownVariable(variable.clone()),
            });
            continue;
        };
        if values.is_given(flag.name) {
            return Err(Refusal::Shadowed { variable: variable.clone() });
        }
        if text.is_empty() {
            continue;
        }
        flag.check(text).map_err(|why| Refusal::BadVariable {
            variable: variable.clone(),
            value: text.clone(),
            why,
        })?;
        values.insert(Given { flag, text: text.clone(), origin: Origin::Environment });
    }
    Ok(())
}

/// Replaces older names by what they became.
pub fn modernize(values: &mut Values, notices: &mut Vec<Notice>) {
    let old: Vec<Given> = values
        .iter()
        .filter(|given| matches!(given.flag.status, Status::Renamed(_) | Status::Gate(_)))
        .cloned()
        .collect();
    for given in old {
        values.remove(given.flag.name);
        match given.flag.status {
            Status::Renamed(name) => rename(values, &given, name, notices),
            Status::Gate(gate) => set_gate(values, &given, gate, notices),
            Status::Built | Status::Idle(_) | Status::Later(_) => {}
        }
    }
}

fn rename(values: &mut Values, given: &Given, name: &'static str, notices: &mut Vec<Notice>) {
    if values.is_given(name) {
        notices.push(Notice::Superseded { given: given.print(), successor: name });
        return;
    }
    let flag = table::find(name).expect("the table names only successors it has");
    let successor = Given { flag, ..given.clone() };
    notices.push(Notice::Renamed { given: given.print(), successor: successor.print() });
    values.insert(successor);
}

fn set_gate(values: &mut Values, given: &Given, gate: &'static str, notices: &mut Vec<Notice>) {
    let flag: &'static Flag = table::find("feature-gates").expect("the table has the gates");
    let before = values.text(flag.name).to_owned();
    let asked = gates::parse(&before).expect("the value was checked");
    if asked.iter().any(|(known, _)| known.name == gate) {
        notices.push(Notice::Superseded { given: given.print(), successor: flag.name });
        return;
    }
    let on = parse_bool(&given.text).expect("the value was checked");
    let successor = format!("{gate}={on}");
    notices.push(Notice::Renamed {
        given: given.print(),
        successor: format!("--{}={successor}", flag.name),
    });
    let text = if before.is_empty() { successor } else { format!("{before},{successor}") };
    values.insert(Given { flag, text, origin: given.origin });
}

/// Refuses what is not built yet and remarks on what has no effect.
pub fn settle(values: &Values, notices: &mut Vec<Notice>) -> Result<(), Refusal> {
    for given in values.iter().filter(|given| !given.flag.is_default(&given.text)) {
        match given.flag.status {
            Status::Built => {}
            Status::Idle(reason) => {
                notices.push(Notice::NoEffect { given: given.print(), reason });
            }
            Status::Later(advice) => {
                return Err(Refusal::Later { given: given.print(), advice });
            }
            Status::Renamed(_) | Status::Gate(_) => unreachable!("older names are gone by now"),
        }
    }
    for (gate, on) in gates::parse(values.text("feature-gates")).expect("the value was checked") {
        let given = format!("--feature-gates={}={on}", gate.name);
        match gate.effect {
            _ if on == gate.default => {}
            Effect::Built => {}
            Effect::None(reason) => notices.push(Notice::NoEffect { given, reason }),
            Effect::Refused(advice) => return Err(Refusal::Later { given, advice }),
        }
    }
    Ok(())
}
