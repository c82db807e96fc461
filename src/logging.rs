//! The log: one JSON object per line, in the shape of etcd's zap log, or its console form.
//!
//! ```text
//! {"level":"warn","ts":"2026-11-21T03:50:21.405731Z","caller":"node/boot.rs:65","msg":"…","a":1}
//! 2026-11-21T03:50:21.405731Z<TAB>warn<TAB>node/boot.rs:65<TAB>…<TAB>{"a": 1}
//! ```
//!
//! - Events come through `tracing`; what the level filters out costs a load and a compare.
//!   Libraries are heard from `warn` up, so that `debug` is about this program.
//! - A field `peer_id` is written `peer-id`, as etcd writes it.
//! - A line goes out in one write per output. A line that cannot be written is dropped: the log
//!   must not stop the member.
//! - The levels `panic` and `fatal` name no events of `tracing`; only [`write()`] makes fatal ones.
//!
//! Absent: rotation, and the journal's own protocol; the supervisor does both.

use std::fmt::{self, Write as _};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::panic::Location;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::{Context, SubscriberExt as _};

#[cfg(test)]
pub(crate) mod tests;

/// How the log is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub level: Level,
    pub format: Format,
    pub outputs: Vec<Output>,
}

/// What a line must at least be to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Console,
}

/// Where a line goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    Stderr,
    Stdout,
    /// Appended to; created if it is absent.
    File(PathBuf),
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("open sink {:?}: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("the process has a log already")]
    Twice,
}

impl Default for Options {
    fn default() -> Self {
        Self { level: Level::Info, format: Format::Json, outputs: vec![Output::Stderr] }
    }
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }

    fn filter(self) -> LevelFilter {
        match self {
            Self::Debug => LevelFilter::DEBUG,
            Self::Info => LevelFilter::INFO,
            Self::Warn => LevelFilter::WARN,
            Self::Error => LevelFilter::ERROR,
            Self::Fatal => LevelFilter::OFF,
        }
    }
}

impl From<tracing::Level> for Level {
    fn from(level: tracing::Level) -> Self {
        match level {
            tracing::Level::TRACE | tracing::Level::DEBUG => Self::Debug,
            tracing::Level::INFO => Self::Info,
            tracing::Level::WARN => Self::Warn,
            tracing::Level::ERROR => Self::Error,
        }
    }
}

static SINK: OnceLock<Arc<Sink>> = OnceLock::new();

/// Makes this the log of the process, panics included.
pub fn install(options: &Options) -> Result<(), LogError> {
    let sink = Arc::new(Sink::open(options)?);
    let subscriber = subscriber(sink.clone());
    SINK.set(sink).map_err(|_| LogError::Twice)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Twice)?;
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let text = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
            (Some(text), _) => text,
            (None, Some(text)) => text.as_str(),
            (None, None) => "a panic without a text",
        };
        let fields = [("panic", Value::from(text))];
        let caller = panic.location().map(|at| (at.file(), at.line()));
        sink_or_stderr().line(Level::Fatal, caller, "panic", &fields);
    }));
    Ok(())
}

/// Writes a line that is no event: one with fields from a list, or a fatal one. Without an
/// installed log it goes to stderr.
#[track_caller]
pub fn write(level: Level, message: &str, fields: &[(&str, Value)]) {
    let caller = Location::caller();
    sink_or_stderr().line(level, Some((caller.file(), caller.line())), message, fields);
}

fn sink_or_stderr() -> Arc<Sink> {
    match SINK.get() {
        Some(sink) => sink.clone(),
        None => Arc::new(Sink::new(&Options::default(), vec![Box::new(io::stderr())])),
    }
}

/// Sends what the level lets through to the sink.
fn subscriber(sink: Arc<Sink>) -> impl tracing::Subscriber + Send + Sync {
    let libraries = sink.level.max(Level::Warn).filter();
    let targets = Targets::new().with_default(libraries).with_target("kvorum", sink.level.filter());
    tracing_subscriber::registry().with(Lines(sink).with_filter(targets))
}

/// The open outputs.
struct Sink {
    level: Level,
    format: Format,
    outputs: Vec<Mutex<Box<dyn Write + Send>>>,
}

impl Sink {
    fn open(options: &Options) -> Result<Self, LogError> {
        let mut outputs: Vec<Box<dyn Write + Send>> = Vec::new();
        for output in &options.outputs {
            outputs.push(match output {
                Output::Stderr => Box::new(io::stderr()),
                Output::Stdout => Box::new(io::stdout()),
                Output::File(path) => {
                    let file = OpenOptions::new().append(true).create(true).open(path);
                    let file =
                        file.map_err(|source| LogError::Open { path: path.clone(), source })?;
                    Box::new(file)
                }
            });
        }
        Ok(Self::new(options, outputs))
    }

    fn new(options: &Options, outputs: Vec<Box<dyn Write + Send>>) -> Self {
        let outputs = outputs.into_iter().map(Mutex::new).collect();
        Self { level: options.level, format: options.format, outputs }
    }

    fn line(
        &self,
        level: Level,
        caller: Option<(&str, u32)>,
        message: &str,
        fields: &[(&str, Value)],
    ) {
        if level < self.level {
            return;
        }
        let mut line = Line { format: self.format, ..Line::default() };
        line.message.push_str(message);
        for (name, value) in fields {
            line.field(name, &value.to_string());
        }
        self.put(&line.finish(level, caller));
    }

    fn put(&self, line: &str) {
        for output in &self.outputs {
            let mut output = output.lock();
            let _ = output.write_all(line.as_bytes());
            // stdout keeps a line back when it is a pipe.
            let _ = output.flush();
        }
    }
}

/// The layer that turns events into lines.
struct Lines(Arc<Sink>);

impl<S: tracing::Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut line = Line { format: self.0.format, ..Line::default() };
        event.record(&mut line);
        let metadata = event.metadata();
        let caller = metadata.file().zip(metadata.line());
        self.0.put(&line.finish(Level::from(*metadata.level()), caller));
    }
}

/// A line under way: the message, and the fields as JSON members.
struct Line {
    format: Format,
    message: String,
    fields: String,
}

impl Default for Line {
    fn default() -> Self {
        Self { format: Format::Json, message: String::new(), fields: String::new() }
    }
}

impl Line {
    fn field(&mut self, name: &str, json: &str) {
        let (comma, colon) = match self.format {
            Format::Json => (",", ":"),
            Format::Console => (", ", ": "),
        };
        if !self.fields.is_empty() {
            self.fields.push_str(comma);
        }
        let name = name.trim_start_matches("r#").replace('_', "-");
        let _ = write!(self.fields, "{}{colon}{json}", quote(&name));
    }

    fn finish(&self, level: Level, caller: Option<(&str, u32)>) -> String {
        let mut time = String::with_capacity(32);
        if SystemTime.format_time(&mut Writer::new(&mut time)).is_err() {
            time.clear();
        }
        let caller =
            caller.map(|(file, line)| format!("{}:{line}", short(file))).unwrap_or_default();
        let (message, fields, level) = (&self.message, &self.fields, level.name());
        match self.format {
            Format::Json => {
                let comma = if fields.is_empty() { "" } else { "," };
                format!(
                    "{{\"level\":\"{level}\",\"ts\":\"{time}\",\"caller\":{},\"msg\":{}{comma}\
                     {fields}}}\n",
                    quote(&caller),
                    quote(message)
                )
            }
            Format::Console if fields.is_empty() => {
                format!("{time}\t{level}\t{caller}\t{message}\n")
            }
            Format::Console => format!("{time}\t{level}\t{caller}\t{message}\t{{{fields}}}\n"),
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            self.field(field.name(), &quote(&format!("{value:?}")));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            self.field(field.name(), &quote(value));
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.field(field.name(), if value { "true" } else { "false" });
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.field(field.name(), &value.to_string());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.field(field.name(), &value.to_string());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.field(field.name(), &Value::from(value).to_string());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.field(field.name(), &quote(&value.to_string()));
    }
}

/// The text as a JSON string.
fn quote(text: &str) -> String {
    Value::from(text).to_string()
}

/// The last folder and the name of a source file: as much as tells where to look.
fn short(file: &str) -> &str {
    let mut slashes = file.char_indices().rev().filter(|(_, c)| matches!(c, '/' | '\\'));
    match slashes.nth(1) {
        Some((at, _)) => &file[at + 1..],
        None => file,
    }
}
