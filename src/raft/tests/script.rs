//! Runs the golden scripts in `testscripts/`: a command per line, what follows from it below.

use std::error::Error;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use goldenscript::Context;

use super::super::conf::{Change, Kind};
use super::super::{
    ConfState, Entry, Message, MessageType, Progress, Proposed, Refusal, SnapshotMetadata,
};
use super::show;
use super::world::{Disk, World};

/// The words of the scripts. Members are named by their ids.
#[derive(goldenscript::Command)]
enum Command {
    /// Founds a cluster: `found 1 2 3`
    Found(Vec<u64>),
    /// Starts a member with an empty log: `join 4`
    Join(u64),
    /// Lets time pass for a member: `tick 1 times=10`
    Tick {
        id: u64,
        #[arg(key)]
        times: Option<usize>,
    },
    /// Starts an election at once: `campaign 1`
    Campaign(u64),
    /// Delivers the messages that are under way, once: `deliver from=1 to=2 type=MsgAppend`
    Deliver {
        #[arg(key)]
        from: Option<u64>,
        #[arg(key)]
        to: Option<u64>,
        #[arg(key = "type")]
        kind: Option<String>,
    },
    /// Loses them instead: `drop to=3`
    Drop {
        #[arg(key)]
        from: Option<u64>,
        #[arg(key)]
        to: Option<u64>,
        #[arg(key = "type")]
        kind: Option<String>,
    },
    /// Delivers until nothing is under way: `settle`
    Settle,
    /// Proposes commands as one message: `propose 1 a b`
    Propose { id: u64, commands: Vec<String> },
    /// Proposes a change of members: `conf 1 add 4`, or learn, remove, update
    Conf { id: u64, kind: String, node: u64 },
    /// Asks for a read index: `read 2`
    Read(u64),
    /// Moves leadership: `transfer 1 to=2`
    Transfer {
        id: u64,
        #[arg(key)]
        to: u64,
    },
    /// Makes a member's writes wait for `write`: `disk 2 slow`
    Disk { id: u64, speed: String },
    /// Finishes a member's oldest writes: `write 2 count=1`
    Write {
        id: u64,
        #[arg(key)]
        count: Option<usize>,
    },
    /// Makes a member's entries wait for `apply`: `applier 2 slow`
    Applier { id: u64, speed: String },
    /// Applies a member's next entries: `apply 2 count=1`
    Apply {
        id: u64,
        #[arg(key)]
        count: Option<usize>,
    },
    /// Parts the network between two groups: `cut 1 from=2,3`
    Cut {
        id: u64,
        #[arg(key)]
        from: String,
    },
    /// Joins it again: `heal`
    Heal,
    /// Stops a member as a power cut does: `crash 2`
    Crash(u64),
    /// Starts it again: `restart 2`
    Restart(u64),
    /// Makes the applied state durable and drops the log up to it: `compact 1 index=5`
    Compact {
        id: u64,
        #[arg(key)]
        index: u64,
    },
    /// Reports messages to a peer lost: `unreachable 1 peer=2`
    Unreachable {
        id: u64,
        #[arg(key)]
        peer: u64,
    },
    /// Hands a member a message of our own making:
    /// `inject MsgAppend to=1 from=2 term=1 index=5 log_term=1 entries=6@1,8@1 commit=3`
    Inject {
        kind: String,
        #[arg(key)]
        to: u64,
        #[arg(key)]
        from: u64,
        #[arg(key, optional)]
        term: u64,
        #[arg(key, optional)]
        index: u64,
        #[arg(key, optional)]
        log_term: u64,
        #[arg(key, optional)]
        commit: u64,
        #[arg(key, optional)]
        entries: String,
        #[arg(key, optional)]
        reject_hint: u64,
        #[arg(key, optional)]
        voters: String,
    },
    /// Shows members at a glance: `status 1 2`
    Status(Vec<u64>),
    /// Shows what a leader knows of the members: `progress 1`
    Progress(u64),
}

struct Runner(World);

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let outcome = self.execute(command)?;
        let mut lines = std::mem::take(&mut self.0.events.lines);
        lines.extend(outcome);
        Ok(lines.into_iter().map(|line| line + "\n").collect())
    }
}

impl Runner {
    /// Executes a command; what is worth showing beyond the events is returned.
    fn execute(&mut self, command: &Command) -> Result<Option<String>, Box<dyn Error>> {
        let world = &mut self.0;
        match command {
            Command::Found(ids) => world.found(ids),
            Command::Join(id) => world.join(*id, Disk::default()),
            Command::Tick { id, times } => {
                for _ in 0..times.unwrap_or(1) {
                    world.tick(*id);
                }
            }
            Command::Campaign(id) => return Ok(refusal(world.input(*id, |core| core.campaign()))),
            Command::Deliver { from, to, kind } => {
                take(world, *from, *to, kind).into_iter().for_each(|m| world.deliver(m));
            }
            Command::Drop { from, to, kind } => {
                take(world, *from, *to, kind).into_iter().for_each(|m| world.lose(&m));
            }
            Command::Settle => world.settle(),
            Command::Propose { id, commands } => {
                let payloads = commands.iter().map(|text| Bytes::from(text.clone())).collect();
                return Ok(proposed(world.input(*id, |core| core.propose(payloads))));
            }
            Command::Conf { id, kind, node } => {
                let change = change(kind, *node)?;
                return Ok(proposed(world.input(*id, |core| core.propose_conf_change(&change))));
            }
            Command::Read(id) => return Ok(refusal(world.read(*id))),
            Command::Transfer { id, to } => {
                return Ok(refusal(world.input(*id, |core| core.transfer_leader(*to))));
            }
            Command::Disk { id, speed } => world.member(*id).slow_disk = is_slow(speed)?,
            Command::Write { id, count } => world.finish_writes(*id, count.unwrap_or(usize::MAX)),
            Command::Applier { id, speed } => world.member(*id).slow_applier = is_slow(speed)?,
            Command::Apply { id, count } => world.apply(*id, count.unwrap_or(usize::MAX)),
            Command::Cut { id, from } => cut(world, *id, from)?,
            Command::Heal => world.cut.clear(),
            Command::Crash(id) => world.crash(*id),
            Command::Restart(id) => world.start(*id),
            Command::Compact { id, index } => {
                world.checkpoint(*id);
                world.compact(*id, *index);
            }
            Command::Unreachable { id, peer } => world.report_unreachable(*id, *peer),
            Command::Inject { .. } => {
                let message = message(command)?;
                return Ok(refusal(world.input(message.to, |core| core.step(message))));
            }
            Command::Status(ids) => {
                let lines: Vec<String> = ids.iter().map(|id| status(world, *id)).collect();
                return Ok(Some(lines.join("\n")));
            }
            Command::Progress(id) => return Ok(Some(progress(world, *id))),
        }
        Ok(None)
    }
}

fn cut(world: &mut World, id: u64, from: &str) -> Result<(), Box<dyn Error>> {
    for other in from.split(',') {
        let other = other.parse()?;
        world.cut.extend([(id, other), (other, id)]);
    }
    Ok(())
}

fn take(
    world: &mut World,
    from: Option<u64>,
    to: Option<u64>,
    kind: &Option<String>,
) -> Vec<Message> {
    let wanted = |message: &Message| {
        from.is_none_or(|from| from == message.from)
            && to.is_none_or(|to| to == message.to)
            && kind.as_ref().is_none_or(|kind| *kind == format!("{:?}", message.get_msg_type()))
    };
    let (taken, left) = std::mem::take(&mut world.wire).into_iter().partition(wanted);
    world.wire = left;
    taken
}

fn refusal<T>(outcome: Result<T, Refusal>) -> Option<String> {
    outcome.err().map(|error| format!("refused: {error}"))
}

fn proposed(outcome: Result<Proposed, Refusal>) -> Option<String> {
    match outcome {
        Ok(Proposed::Appended { first, term }) => {
            Some(format!("proposed from {first} in term {term}"))
        }
        Ok(Proposed::Forwarded { leader }) => Some(format!("forwarded to {leader}")),
        Err(error) => Some(format!("refused: {error}")),
    }
}

fn is_slow(speed: &str) -> Result<bool, Box<dyn Error>> {
    match speed {
        "slow" => Ok(true),
        "fast" => Ok(false),
        other => Err(format!("neither slow nor fast: {other}").into()),
    }
}

fn change(kind: &str, node: u64) -> Result<Change, Box<dyn Error>> {
    let kind = match kind {
        "add" => Kind::AddVoter,
        "learn" => Kind::AddLearner,
        "remove" => Kind::Remove,
        "update" => Kind::Update,
        other => return Err(format!("no such change: {other}").into()),
    };
    Ok(Change { id: 7, kind, node, context: Bytes::new() })
}

fn status(world: &mut World, id: u64) -> String {
    let member = world.member(id);
    let Some(core) = member.core.as_ref() else { return format!("{id} is down") };
    let status = core.status();
    let commands: Vec<&str> = member.machine.commands.iter().map(|(_, text)| &**text).collect();
    format!(
        "{id} is {} log={}..{} commit={} applied={} {} [{}]{}",
        show::standing(&status.standing),
        status.first_index,
        status.last_index,
        status.commit,
        status.applied,
        show::conf_state(core.conf_state()),
        commands.join(" "),
        if status.removed { " removed" } else { "" },
    )
}

fn progress(world: &mut World, id: u64) -> String {
    let line = |progress: &Progress| {
        let kind = if progress.is_learner { "learner" } else { "voter" };
        let active = if progress.is_active { "active" } else { "silent" };
        let Progress { id, matched, flow, .. } = progress;
        format!("{id} {kind} matched={matched} {flow:?} {active}")
    };
    world.core(id).progress().iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Builds the message of an `inject`. An entry is `index@term`, or `index@term:type`.
fn message(command: &Command) -> Result<Message, Box<dyn Error>> {
    let Command::Inject {
        kind,
        to,
        from,
        term,
        index,
        log_term,
        commit,
        entries,
        reject_hint,
        voters,
    } = command
    else {
        return Err("not an injection".into());
    };
    let is_named = |number: &i32| {
        MessageType::try_from(*number).is_ok_and(|named| format!("{named:?}") == *kind)
    };
    let msg_type = match (0..32).find(is_named) {
        Some(number) => number,
        None => kind.parse()?,
    };
    let mut message = Message {
        msg_type,
        to: *to,
        from: *from,
        term: *term,
        index: *index,
        log_term: *log_term,
        commit: *commit,
        reject: *reject_hint > 0,
        reject_hint: *reject_hint,
        ..Message::default()
    };
    for text in entries.split(',').filter(|text| !text.is_empty()) {
        let (position, kind) = text.split_once(':').unwrap_or((text, "0"));
        let (index, term) = position.split_once('@').ok_or("an entry is index@term")?;
        message.entries.push(Entry {
            entry_type: kind.parse()?,
            index: index.parse()?,
            term: term.parse()?,
            data: Bytes::from_static(b"injected"),
            ..Entry::default()
        });
    }
    if !voters.is_empty() {
        let voters = voters.split(',').map(str::parse).collect::<Result<Vec<u64>, _>>()?;
        let metadata = SnapshotMetadata { index: *index, term: *log_term, ..Default::default() };
        let conf_state = ConfState { voters, ..Default::default() };
        let metadata = SnapshotMetadata { conf_state: Some(conf_state), ..metadata };
        message.mut_snapshot().set_metadata(metadata);
    }
    Ok(message)
}

/// One test for all scripts, so that a new file needs no new line here. Each is reported by name.
#[test]
fn scripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/raft/testscripts");
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .expect("the folder is there")
        .map(|file| file.expect("a readable folder").path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "there are scripts");
    for path in paths {
        let outcome = goldenscript::run(&mut Runner(World::new(1)), &path);
        outcome.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}
