//! Scripts against a running server: the language, its runner, and the server under it.
//!
//! A script in `tests/scripts/<folder>/<claim>` is one scenario. Its name is the claim, its first
//! line the intent, and what stands after each `---` the answers a real etcd 3.7 gave:
//!
//! ```text
//! # A limit cuts the rows and says so; the count is that of the whole range.
//! # flags: --max-txn-ops=3            (for the server; any number, only in the head; METRICS in
//! #                                    them is a free address)
//!
//! (put a 1)                           (in parentheses: run, but not shown)
//! put b 2 prev_kv
//! range a end=z limit=1
//! ---
//! rev=3
//! rev=3 count=2 more
//!   "a"="1" create=2 mod=2 version=1
//! ```
//!
//! - `cargo test --test tests scripts` replays all against kvorum, each on a server of its own.
//! - `REPLAY_ON=/path/to/etcd` replays them against another binary.
//! - `RECORD_FROM=/path/to/etcd` runs them there and rewrites the answers. Commit what changed only
//!   if you understand it and want it; etcd's answers are facts, kvorum's are never recorded.
//! - `SCRIPT=text` narrows to names that contain it, `scripts::watch` to one folder.
//!
//! # Lines
//!
//! The syntax is goldenscript's: words and `name=value`, in quotes if there is anything in them but
//! letters, digits and `_ - . / @`, or if they start with one of the last four (so `rev="-1"`). A
//! character up to U+00FF is that byte: `"\xff"`, `"\0"`. A line after `>` is raw: it may nest, and
//! only blanks, quotes and `{ } ; ,` need quotes. A prefix (`s1: watch a`) names a watch stream.
//!
//! ```text
//! range KEY [end=] [limit=] [rev=] [sort=ORDER/TARGET] [min_mod=] [max_mod=] [min_create=]
//!       [max_create=] [serializable] [keys_only] [count_only]       ORDER: NONE ASCEND DESCEND 9
//! range_stream ...                   as range; one answer per message, then `end`
//! put KEY [VALUE] [size=] [lease=] [prev_kv] [ignore_value] [ignore_lease]
//! delete KEY [end=] [prev_kv]
//! compact REVISION [physical]
//! > txn if mod a = 2, value b != "x" then put a 1; range a else txn { then delete a }
//!                                    the grammar is in [`txn`]; plain `txn` is the empty one
//!
//! watch KEY [end=] [start=] [id=] [filters=noput/nodelete] [prev_kv] [progress] [fragment]
//! cancel ID | progress | close | watch_nothing       sent at once, shown by nothing
//! recv [N] [unordered]               the next N answers of the stream; `end` when it is over
//!
//! lease grant TTL ID | lease revoke ID | lease ttl ID [keys] | lease list
//! keepalive ID {ID}                  all on one stream, then its end
//!
//! status | hash | hashkv [rev=] | defragment | snapshot | move_leader ID
//! alarm get|activate|deactivate [none|nospace|corrupt] [member=self|ID]
//! downgrade validate|enable|cancel [VERSION]
//! member list [linearizable] | add URL [learner] | remove ID | update ID URL | promote ID
//!                                    an id may be `self`, or `other`: of the one added last
//! health check [SERVICE] | health list
//! http METHOD "PATH" [body=] [headers="NAME: VALUE | ..."] [show="name name"] [no_body] [metrics]
//!                                    `show`: headers of the answer; `metrics`: on METRICS
//! raw "/SERVICE/METHOD" "BYTES" [size=] [code_only]  what no generated client would send
//! h2 METHOD "PATH" ["BYTES"] [headers=] [flag=] [code_only]  nor any client of gRPC
//!
//! restart | crash                    SIGTERM or SIGKILL, then the same directory again
//! > until "TEXT" COMMAND             again and again until the answer has the text (`\n`: its end)
//! > repeat N COMMAND                 `%` is 001, 002, ...; only the last answer is shown
//! ```
//!
//! # Answers
//!
//! - A header is `rev=N`; `bare` if only its revision is set; `no-header`; `no-member` and the
//!   like if a part is missing, `other-member` if it is not the member that answered first.
//! - A row is `"key"="value"` and what else is set; an event is `PUT` or `DELETE`, the row, and
//!   `before(...)`. More than 64 bytes or 12 rows are shown by their ends and a crc of all.
//! - An error is `Code: text`.
//!
//! # Masks
//!
//! What differs from run to run is checked and printed as a word: ids of cluster and member
//! (`self`, `other`), terms, addresses (`CLIENT`, `PEER`), sizes and indexes (`sized=true`), a
//! lease id the server chose (`chosen`), the time left of a lease (`100-`: a little less than
//! 100), the server's patch version (`3.7.x`). Order that means nothing is sorted: alarms,
//! members, keys of a lease, HTTP checks, and answers asked for as `unordered`.
//!
//! Absent on purpose: anything that waits for time to pass instead of for an answer; texts that
//! belong to a gRPC library (`code_only`), but for the one of too large a message, which clients
//! of etcd have learnt; and what etcd itself answers differently from run to run, such as which
//! of two watchers of one key hears of it first.

pub mod harness;

mod cluster;
mod h2;
pub mod http;
mod kv;
mod lease;
mod line;
mod maintenance;
pub mod port;
pub mod print;
mod raw;
mod session;
pub mod target;
mod txn;
mod watch;
