//! The flags about the log, from texts to [`logging::Options`].

use std::path::PathBuf;

use super::notice::Notice;
use super::refusal::Refusal;
use super::values::Values;
use crate::logging::{Format, Level, Options, Output};

/// Reads the flags about the log.
pub fn options(values: &Values, notices: &mut Vec<Notice>) -> Result<Options, Refusal> {
    match values.text("logger") {
        "zap" => {}
        other => return Err(Refusal::Logger(other.to_owned())),
    }
    let level = match values.text("log-level") {
        "debug" | "DEBUG" => Level::Debug,
        "" | "info" | "INFO" => Level::Info,
        "warn" | "WARN" => Level::Warn,
        "error" | "ERROR" => Level::Error,
        "dpanic" | "DPANIC" | "panic" | "PANIC" | "fatal" | "FATAL" => Level::Fatal,
        other => return Err(Refusal::LogLevel(other.to_owned())),
    };
    let format = match values.text("log-format") {
        "json" => Format::Json,
        "console" => Format::Console,
        other => return Err(Refusal::LogFormat(other.to_owned())),
    };
    Ok(Options { level, format, outputs: outputs(values, notices)? })
}

fn outputs(values: &Values, notices: &mut Vec<Notice>) -> Result<Vec<Output>, Refusal> {
    let words = values.words("log-outputs");
    if words.is_empty() {
        return Err(Refusal::EmptyLogOutput);
    }
    if words.len() > 1 && words.iter().any(|word| word == "default") {
        return Err(Refusal::LogOutputs);
    }
    let mut outputs = Vec::new();
    for word in &words {
        outputs.push(match &**word {
            "" => return Err(Refusal::EmptyLogOutput),
            "default" | "stderr" => Output::Stderr,
            "stdout" => Output::Stdout,
            "systemd/journal" => {
                notices.push(Notice::Journal);
                Output::Stderr
            }
            path => Output::File(PathBuf::from(path)),
        });
    }
    outputs.dedup();
    Ok(outputs)
}
