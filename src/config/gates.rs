//! Feature gates: `--feature-gates=A=true,B=false`.
//!
//! etcd's gates switch its own experiments. Here a gate does what it does there, or is already as
//! it is asked to be, or is refused by name.

/// One gate of etcd.
#[derive(Debug)]
pub struct Gate {
    pub name: &'static str,
    /// Whether etcd has it on when nobody says anything.
    pub default: bool,
    pub effect: Effect,
}

/// What asking for the opposite of the default does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// What etcd's gate does.
    Built,
    /// Nothing, for this reason; a warning says so.
    None(&'static str),
    /// The start is refused, with this advice.
    Refused(&'static str),
}

/// Why a text is not a list of gates. The words are those operators know from etcd.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    #[error("unrecognized feature gate: {0}")]
    Unknown(String),
    #[error("missing bool value for {0}")]
    NoValue(String),
    #[error(
        "invalid value of {name}={value}, err: strconv.ParseBool: parsing {value:?}: invalid syntax"
    )]
    NotBool { name: String, value: String },
}

const CHECKPOINTS: &str = "the time leases have left is always checkpointed, and kept";

/// Every gate of etcd 3.7, and the two that stand for all of a stage.
pub static GATES: [Gate; 11] = [
    gate("AllAlpha", false, Effect::Refused("name the gates you need one by one")),
    gate("AllBeta", true, Effect::None("the beta gates change nothing that kvorum does")),
    gate("CompactHashCheck", false, Effect::None("members are always compared")),
    gate("FastLeaseKeepAlive", true, Effect::None("renewals never wait for a disk here")),
    gate("InitialCorruptCheck", false, Effect::Built),
    gate("LeaseCheckpoint", false, Effect::None(CHECKPOINTS)),
    gate("LeaseCheckpointPersist", false, Effect::None(CHECKPOINTS)),
    gate("PriorityRequest", false, Effect::Refused("requests have one priority; leave it out")),
    gate(
        "SetMemberLocalAddr",
        false,
        Effect::None("members are dialed from any address of this machine"),
    ),
    gate("StopGRPCServiceOnDefrag", false, Effect::Built),
    gate("TxnModeWriteWithSharedBuffer", true, Effect::None("kvorum has no such buffer")),
];

const fn gate(name: &'static str, default: bool, effect: Effect) -> Gate {
    Gate { name, default, effect }
}

/// Whether a text asks for a gate; the last word on it counts.
pub fn is_on(text: &str, name: &str) -> bool {
    let asked = parse(text).unwrap_or_default();
    let gate = GATES.iter().find(|gate| gate.name == name).expect("a gate of etcd");
    let last = asked.iter().rev().find(|(asked, _)| asked.name == name);
    last.map_or(gate.default, |(_, on)| *on)
}

/// The gates a text names, in its order, with what they shall be. Empty pieces are skipped.
pub fn parse(text: &str) -> Result<Vec<(&'static Gate, bool)>, GateError> {
    let mut asked = Vec::new();
    for piece in text.split(',').map(str::trim).filter(|piece| !piece.is_empty()) {
        let Some((name, value)) = piece.split_once('=') else {
            return Err(GateError::NoValue(piece.into()));
        };
        let (name, value) = (name.trim(), value.trim());
        let Some(value) = super::flag::parse_bool(value) else {
            return Err(GateError::NotBool { name: name.into(), value: value.into() });
        };
        let Some(gate) = GATES.iter().find(|gate| gate.name == name) else {
            return Err(GateError::Unknown(name.into()));
        };
        asked.push((gate, value));
    }
    Ok(asked)
}
