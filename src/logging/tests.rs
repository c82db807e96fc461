//! Tests of the log: what events and lines look like.

use std::io::{self, Write};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;

use super::{Format, Level, Options, Sink, short, subscriber};

/// An output that is read afterwards.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn sink(level: Level, format: Format) -> (Arc<Sink>, Memory) {
    let memory = Memory::default();
    let options = Options { level, format, ..Options::default() };
    (Arc::new(Sink::new(&options, vec![Box::new(memory.clone())])), memory)
}

fn log(level: Level, format: Format, write: impl FnOnce()) -> String {
    let (sink, memory) = sink(level, format);
    tracing::subscriber::with_default(subscriber(sink), write);
    let bytes = memory.0.lock().clone();
    String::from_utf8(bytes).expect("the log is text")
}

/// What is logged, one line `! level message {fields}` per event.
pub(crate) fn capture(write: impl FnOnce()) -> String {
    let mut out = String::new();
    for line in log(Level::Debug, Format::Json, write).lines() {
        let Ok(Value::Object(mut entry)) = serde_json::from_str(line) else {
            panic!("not a line of JSON: {line}");
        };
        let mut take = |name: &str| match entry.remove(name) {
            Some(Value::String(text)) => text,
            other => panic!("{name} is {other:?} in {line}"),
        };
        let (level, message) = (take("level"), take("msg"));
        assert!(take("ts").ends_with('Z') && take("caller").contains(".rs:"));
        let fields = if entry.is_empty() { String::new() } else { Value::from(entry).to_string() };
        out += format!("! {level} {message} {fields}").trim_end();
        out.push('\n');
    }
    out
}

#[test]
fn an_event_is_a_line_of_json() {
    let line = log(Level::Info, Format::Json, || {
        let error = io::Error::other("no \"disk\"\n");
        let id = "8e9e";
        tracing::warn!(peer_id = %id, took_ms = 3, slow = true, %error, rate = 0.5, "lost {}", 1);
    });
    let (head, rest) = line.split_once("\"ts\":\"").expect("a time");
    let (time, rest) = rest.split_once("\",").expect("a caller after the time");
    assert_eq!(head, "{\"level\":\"warn\",");
    assert_eq!((time.len(), &time[4..5], &time[10..11], &time[26..]), (27, "-", "T", "Z"));
    let (caller, rest) = rest.split_once("\",").expect("a message after the caller");
    assert!(caller.starts_with("\"caller\":\"logging/tests.rs:"), "{caller}");
    assert_eq!(
        rest,
        "\"msg\":\"lost 1\",\"peer-id\":\"8e9e\",\"took-ms\":3,\"slow\":true,\
         \"error\":\"no \\\"disk\\\"\\n\",\"rate\":0.5}\n"
    );
}

#[test]
fn the_console_has_columns() {
    let line = log(Level::Info, Format::Console, || {
        tracing::info!("plain");
        tracing::info!(name = "x", count = 2, "with fields");
    });
    let columns: Vec<Vec<&str>> = line.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(columns[0].len(), 4);
    assert_eq!((columns[0][1], columns[0][3]), ("info", "plain"));
    assert_eq!(columns[1][3..], ["with fields", "{\"name\": \"x\", \"count\": 2}"]);
}

#[test]
fn levels_filter_and_libraries_whisper() {
    let write = || {
        tracing::debug!("own debug");
        tracing::info!("own info");
        tracing::error!("own error");
        tracing::info!(target: "h2::client", "library info");
        tracing::warn!(target: "h2::client", "library warn");
    };
    let messages = |level| -> Vec<String> {
        let text = log(level, Format::Console, write);
        text.lines().filter_map(|line| line.split('\t').nth(3).map(str::to_owned)).collect()
    };
    assert_eq!(messages(Level::Debug), ["own debug", "own info", "own error", "library warn"]);
    assert_eq!(messages(Level::Info), ["own info", "own error", "library warn"]);
    assert_eq!(messages(Level::Error), ["own error"]);
    assert!(messages(Level::Fatal).is_empty());
}

#[test]
fn what_is_filtered_out_is_never_asked_for() {
    let (sink, _) = sink(Level::Info, Format::Json);
    tracing::subscriber::with_default(subscriber(sink), || {
        assert!(!tracing::enabled!(tracing::Level::DEBUG), "a filtered level is off at the door");
    });
}

#[test]
fn written_lines_have_fields_of_any_kind() {
    let (sink, memory) = sink(Level::Info, Format::Json);
    let fields = [("urls", serde_json::json!(["a", "b"])), ("count", Value::from(3))];
    sink.line(Level::Fatal, Some(("src/node/boot.rs", 7)), "gone", &fields);
    sink.line(Level::Debug, None, "filtered", &[]);
    let text = String::from_utf8(memory.0.lock().clone()).expect("the log is text");
    assert!(text.ends_with(
        "\"caller\":\"node/boot.rs:7\",\"msg\":\"gone\",\"urls\":[\"a\",\"b\"],\"count\":3}\n"
    ));
    assert_eq!(text.lines().count(), 1);
}

#[test]
fn a_caller_is_a_folder_and_a_file() {
    assert_eq!(short("/registry/h2-0.4/src/proto/streams.rs"), "proto/streams.rs");
    assert_eq!(short("src/main.rs"), "src/main.rs");
    assert_eq!(short("main.rs"), "main.rs");
}
