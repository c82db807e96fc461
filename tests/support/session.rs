//! One script against one server: each command is a method of etcd's API, or one of the few that
//! steer the script itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kvorum::pb::etcdserverpb::kv_client::KvClient;
use kvorum::pb::{self, watch_request::RequestUnion};
use rustix::process::Signal;
use tonic::transport::{Channel, Endpoint};

use super::line::{Line, Outcome, tokens};
use super::print::{self, Printer};
use super::target::Target;
use super::watch::{self, Stream};
use super::{cluster, h2, http, kv, lease, maintenance, raw, txn};

const CALL_TIME_MAX: Duration = Duration::from_secs(30);
const UNTIL_TIME_MAX: Duration = Duration::from_secs(30);
const UNTIL_PAUSE: Duration = Duration::from_millis(20);

/// Runs a script's commands; the goldenscript side of a session.
pub struct Runner {
    runtime: tokio::runtime::Runtime,
    session: Session,
}

struct Session {
    target: Target,
    channel: Channel,
    printer: Printer,
    /// Watch streams by the prefix of the commands that use them.
    streams: BTreeMap<String, Stream>,
}

impl Runner {
    /// Takes over a server that is ready.
    pub fn new(target: Target) -> Outcome<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let endpoint = Endpoint::from_shared(format!("http://{}", target.address()))?;
        let channel = {
            let _inside = runtime.enter();
            endpoint.connect_lazy()
        };
        let (printer, streams) = (Printer::default(), BTreeMap::new());
        let session = Session { target, channel, printer, streams };
        let mut runner = Self { runtime, session };
        // The first answer tells which cluster and member all others must come from.
        runner.call("", Line::plain("status"))?;
        Ok(runner)
    }

    fn call(&mut self, stream: &str, line: Line) -> Outcome {
        let name = line.name.clone();
        let run = async {
            let call = self.session.run(stream, line);
            tokio::time::timeout(CALL_TIME_MAX, call).await
        };
        let answer = self.runtime.block_on(run);
        let answer = answer.unwrap_or_else(|_| Err("no answer in time".into()));
        let answer =
            answer.map_err(|error| format!("{name}: {error}; {}", self.session.target.log()))?;
        Ok(self.session.target.mask(&answer))
    }

    /// Runs a line given as text, as it stands after `>`.
    fn call_text(&mut self, stream: &str, text: &str) -> Outcome {
        let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
        match first {
            "until" => self.until(stream, rest),
            "repeat" => self.repeat(stream, rest),
            "txn" => {
                let mut rest = tokens(rest)?;
                let request = txn::request(&mut rest)?;
                if !rest.is_empty() {
                    return Err(format!("after the transaction: {rest:?}").into());
                }
                self.runtime.block_on(self.session.txn(request))
            }
            _ => self.call(stream, Line::from_tokens(&mut tokens(text)?)?),
        }
    }

    /// `until "TEXT" COMMAND`: runs the command again and again until its answer has the text;
    /// `\n` in it stands for the end of a line.
    fn until(&mut self, stream: &str, rest: &str) -> Outcome {
        let rest = rest.trim_start().strip_prefix('"').ok_or("until takes a quoted text")?;
        let (wanted, command) = rest.split_once('"').ok_or("the quote is not closed")?;
        let wanted = wanted.replace("\\n", "\n");
        let deadline = Instant::now() + UNTIL_TIME_MAX;
        loop {
            let answer = self.call_text(stream, command.trim())?;
            if format!("{answer}\n").contains(&wanted) {
                return Ok(answer);
            }
            if Instant::now() > deadline {
                return Err(format!("never {wanted:?}, last {answer:?}").into());
            }
            std::thread::sleep(UNTIL_PAUSE);
        }
    }

    /// `repeat N COMMAND`: `%` stands for 001, 002, ...; only the last answer is shown.
    fn repeat(&mut self, stream: &str, rest: &str) -> Outcome {
        let (times, command) = rest.trim_start().split_once(' ').ok_or("repeat N COMMAND")?;
        let mut last = String::new();
        for number in 1..=times.parse::<u32>()? {
            last = self.call_text(stream, &command.replace('%', &format!("{number:03}")))?;
        }
        Ok(last)
    }
}

impl goldenscript::Runner for Runner {
    type Command = goldenscript::Command;

    fn run(&mut self, command: &Self::Command, context: &goldenscript::Context) -> Outcome {
        let stream = context.prefix.as_deref().unwrap_or_default();
        if command.name.contains(' ') {
            return self.call_text(stream, &command.name);
        }
        self.call(stream, Line::from_command(command))
    }
}

impl Session {
    /// The script's vocabulary; `tests/support/mod.rs` explains it.
    async fn run(&mut self, stream: &str, mut line: Line) -> Outcome {
        let (channel, printer) = (self.channel.clone(), &mut self.printer);
        match line.name.as_str() {
            "range" => self.range(line).await,
            "range_stream" => self.range_stream(line).await,
            "put" => self.put(line).await,
            "delete" => self.delete(line).await,
            "txn" => self.txn(pb::TxnRequest::default()).await,
            "compact" => self.compact(line).await,
            "watch" => self.send(stream, Some(watch::create_request(line)?)),
            "cancel" => self.send(stream, Some(watch::cancel_request(line)?)),
            "progress" => {
                line.finish()?;
                let request = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
                self.send(stream, Some(request))
            }
            "watch_nothing" => {
                line.finish()?;
                self.send(stream, None)
            }
            "close" => {
                line.finish()?;
                self.stream(stream)?.close();
                Ok(String::new())
            }
            "recv" => self.receive(stream, line).await,
            "lease" => lease::run(channel, printer, line).await,
            "keepalive" => lease::keep_alive(channel, printer, line).await,
            "member" => {
                line.replace_word("http://PEER", &format!("http://{}", self.target.peer_address()));
                cluster::run(channel, printer, line).await
            }
            "health" => cluster::health(channel, line).await,
            "http" => {
                let apart = line.flag("metrics");
                let target = &self.target;
                http::run(&if apart { target.metrics_address() } else { target.address() }, line)
            }
            "h2" => h2::run(&self.target.address(), line).await,
            "raw" => raw::run(channel, line).await,
            "restart" => self.restart(line, Signal::TERM),
            "crash" => self.restart(line, Signal::KILL),
            _ => maintenance::run(channel, printer, line).await,
        }
    }

    fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    async fn range(&mut self, line: Line) -> Outcome {
        let response = self.kv().range(kv::range_request(line)?).await;
        let answer = response.map(|got| self.printer.range(got.get_ref()));
        Ok(answer.unwrap_or_else(|status| print::status(&status)))
    }

    async fn range_stream(&mut self, line: Line) -> Outcome {
        let mut out = Vec::new();
        let end = async {
            let mut stream = self.kv().range_stream(kv::range_request(line)?).await?.into_inner();
            while let Some(message) = stream.message().await? {
                let answer = message.range_response.map(|range| self.printer.range(&range));
                out.push(answer.unwrap_or_else(|| "a message that says nothing".to_owned()));
            }
            Ok::<_, Box<dyn std::error::Error>>("end".to_owned())
        };
        let end = match end.await {
            Ok(end) => end,
            Err(error) => print::status(&*error.downcast::<tonic::Status>()?),
        };
        out.push(end);
        Ok(out.join("\n"))
    }

    async fn put(&mut self, line: Line) -> Outcome {
        let response = self.kv().put(kv::put_request(line)?).await;
        let answer = response.map(|got| self.printer.put(got.get_ref()));
        Ok(answer.unwrap_or_else(|status| print::status(&status)))
    }

    async fn delete(&mut self, line: Line) -> Outcome {
        let response = self.kv().delete_range(kv::delete_request(line)?).await;
        let answer = response.map(|got| self.printer.delete(got.get_ref()));
        Ok(answer.unwrap_or_else(|status| print::status(&status)))
    }

    async fn txn(&mut self, request: pb::TxnRequest) -> Outcome {
        let response = self.kv().txn(request).await;
        let answer = response.map(|got| self.printer.txn(got.get_ref()));
        Ok(answer.unwrap_or_else(|status| print::status(&status)))
    }

    async fn compact(&mut self, line: Line) -> Outcome {
        let response = self.kv().compact(kv::compact_request(line)?).await;
        let answer = response.map(|got| self.printer.header(got.get_ref().header.as_ref()));
        Ok(answer.unwrap_or_else(|status| print::status(&status)))
    }

    fn send(&mut self, stream: &str, request: Option<RequestUnion>) -> Outcome {
        let channel = &self.channel;
        let open = || Stream::open(channel.clone());
        self.streams.entry(stream.to_owned()).or_insert_with(open).send(request)?;
        Ok(String::new())
    }

    fn stream(&mut self, stream: &str) -> Outcome<&mut Stream> {
        self.streams.get_mut(stream).ok_or_else(|| "no such watch stream".into())
    }

    /// `recv [N] [unordered]`: the next answers of the stream, sorted if their order means nothing.
    async fn receive(&mut self, name: &str, mut line: Line) -> Outcome {
        let unordered = line.flag("unordered");
        let count = match line.maybe_word() {
            Some(word) => String::from_utf8(word)?.parse()?,
            None => 1,
        };
        line.finish()?;
        let stream = self.streams.get_mut(name).ok_or("no such watch stream")?;
        let mut out = Vec::with_capacity(count);
        for _ in 0..count {
            out.push(stream.receive(&mut self.printer).await?);
        }
        if unordered {
            out.sort();
        }
        Ok(out.join("\n"))
    }

    fn restart(&mut self, line: Line, signal: Signal) -> Outcome {
        line.finish()?;
        self.target.restart(signal)?;
        // What was open went down with the process, and so did the connection.
        self.streams.clear();
        let endpoint = Endpoint::from_shared(format!("http://{}", self.target.address()))?;
        self.channel = endpoint.connect_lazy();
        Ok(String::new())
    }
}
