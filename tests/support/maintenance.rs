//! The commands of the Maintenance service. Sizes and ids are checked here and printed as words.

use kvorum::pb::etcdserverpb::maintenance_client::MaintenanceClient;
use kvorum::pb::{self};
use sha2::{Digest as _, Sha256};
use tonic::Status;
use tonic::transport::Channel;

use super::line::{Line, Outcome};
use super::print::{self, Printer};

const SHA256_BYTES: usize = 32;
const BLOB_BYTES_MAX: usize = 32 * 1024;
const SNAPSHOT_PAGE_BYTES: usize = 512;

/// Runs `status`, `alarm ...`, `hash`, `hashkv [rev=]`, `defragment`, `snapshot`,
/// `move_leader ID`, `downgrade validate/enable/cancel [VERSION]`.
pub async fn run(channel: Channel, printer: &mut Printer, mut line: Line) -> Outcome {
    let mut client = MaintenanceClient::new(channel);
    let status = match line.name.as_str() {
        "alarm" => {
            let request = alarm_request(&mut line, printer)?;
            line.finish()?;
            client.alarm(request).await.map(|got| printer.alarms(got.get_ref()))
        }
        "hashkv" => {
            let revision = line.named_number("rev")?;
            line.finish()?;
            let response = client.hash_kv(pb::HashKvRequest { revision }).await;
            response.map(|got| printer.hash_kv(got.get_ref()))
        }
        "move_leader" => {
            let target_id = u64::try_from(line.number("target")?)?;
            line.finish()?;
            let response = client.move_leader(pb::MoveLeaderRequest { target_id }).await;
            response.map(|got| printer.header(got.get_ref().header.as_ref()))
        }
        "downgrade" => {
            let request = downgrade_request(&mut line)?;
            line.finish()?;
            let response = client.downgrade(request).await;
            response.map(|got| {
                let header = printer.header(got.get_ref().header.as_ref());
                format!("{header} version={:?}", got.get_ref().version)
            })
        }
        name => {
            let name = name.to_owned();
            line.finish()?;
            plain(client, printer, &name).await?
        }
    };
    Ok(status.unwrap_or_else(|status| print::status(&status)))
}

/// The commands that take no arguments.
async fn plain(
    mut client: MaintenanceClient<Channel>,
    printer: &mut Printer,
    name: &str,
) -> Outcome<Result<String, Status>> {
    Ok(match name {
        "status" => {
            let response = client.status(pb::StatusRequest {}).await;
            response.map(|got| printer.server_status(got.get_ref()))
        }
        "hash" => client.hash(pb::HashRequest {}).await.map(|got| {
            let header = printer.header(got.get_ref().header.as_ref());
            format!("{header} hash={}", some(got.get_ref().hash.into()))
        }),
        "defragment" => {
            let response = client.defragment(pb::DefragmentRequest {}).await;
            response.map(|got| printer.header(got.get_ref().header.as_ref()))
        }
        "snapshot" => snapshot(client, printer).await,
        other => return Err(format!("there is no command {other}").into()),
    })
}

/// Reads `alarm get/activate/deactivate [none/nospace/corrupt] [member=self]`, each also by
/// number.
fn alarm_request(line: &mut Line, printer: &Printer) -> Outcome<pb::AlarmRequest> {
    let action = line.text("action")?;
    let known = pb::alarm_request::AlarmAction::from_str_name(&action.to_uppercase());
    let action = known.map_or_else(|| action.parse(), |action| Ok(action as i32))?;
    let alarm = match line.maybe_word() {
        Some(word) => String::from_utf8(word)?,
        None => "none".to_owned(),
    };
    let known = pb::AlarmType::from_str_name(&alarm.to_uppercase());
    let alarm = known.map_or_else(|| alarm.parse(), |alarm| Ok(alarm as i32))?;
    let member_id = match line.named_text("member")?.as_deref() {
        Some("self") => printer.member_id,
        Some(number) => number.parse()?,
        None => 0,
    };
    Ok(pb::AlarmRequest { action, member_id, alarm })
}

fn downgrade_request(line: &mut Line) -> Outcome<pb::DowngradeRequest> {
    let action = line.text("action")?;
    let known = pb::downgrade_request::DowngradeAction::from_str_name(&action.to_uppercase());
    let action = known.map_or_else(|| action.parse(), |action| Ok(action as i32))?;
    let version = String::from_utf8(line.maybe_word().unwrap_or_default())?;
    Ok(pb::DowngradeRequest { action, version })
}

/// Reads a snapshot to its end and says what holds of it, not how large it is.
async fn snapshot(
    mut client: MaintenanceClient<Channel>,
    printer: &mut Printer,
) -> Result<String, Status> {
    let mut stream = client.snapshot(pb::SnapshotRequest {}).await?.into_inner();
    let mut parts = Vec::new();
    while let Some(part) = stream.message().await? {
        parts.push(part);
    }
    let Some((seal, blobs)) = parts.split_last() else {
        return Ok("no messages".to_owned());
    };
    let content: Vec<u8> = blobs.iter().flat_map(|part| part.blob.iter().copied()).collect();
    let mut left = content.len() as u64;
    let counted = blobs.iter().all(|part| {
        left -= part.blob.len() as u64;
        part.remaining_bytes == left
    });
    let sealed = seal.blob.len() == SHA256_BYTES && Sha256::digest(&content)[..] == seal.blob[..];
    let mut out = printer.header(seal.header.as_ref());
    for (name, holds) in [
        ("headers-alike", parts.iter().all(|part| part.header == seal.header)),
        ("counts-down", counted && seal.remaining_bytes == 0),
        ("sealed", sealed),
        ("whole-pages", content.len().is_multiple_of(SNAPSHOT_PAGE_BYTES)),
        ("small-blobs", parts.iter().all(|part| part.blob.len() <= BLOB_BYTES_MAX)),
        ("versions-alike", parts.iter().all(|part| part.version == seal.version)),
    ] {
        out.push_str(&format!(" {name}={holds}"));
    }
    Ok(format!("{out} version={:?}", seal.version))
}

/// A number that only has to be there.
fn some(number: i64) -> &'static str {
    if number == 0 { "none" } else { "some" }
}

impl Printer {
    fn hash_kv(&mut self, response: &pb::HashKvResponse) -> String {
        let mut out = self.header(response.header.as_ref());
        out.push_str(&format!(" hash={:08x}", response.hash));
        print::number(&mut out, "compacted", response.compact_revision);
        print::number(&mut out, "hashed", response.hash_revision);
        out
    }

    fn alarms(&mut self, response: &pb::AlarmResponse) -> String {
        let mut out = self.header(response.header.as_ref());
        let mut alarms: Vec<String> =
            response.alarms.iter().map(|alarm| self.alarm(alarm)).collect();
        alarms.sort();
        for alarm in alarms {
            out.push_str(&format!("\n  {alarm}"));
        }
        out
    }

    fn alarm(&self, alarm: &pb::AlarmMember) -> String {
        let name = pb::AlarmType::try_from(alarm.alarm);
        let name =
            name.map_or_else(|_| alarm.alarm.to_string(), |name| name.as_str_name().to_owned());
        format!("member={} {name}", self.member(alarm.member_id))
    }

    fn server_status(&mut self, response: &pb::StatusResponse) -> String {
        let mut out = self.header(response.header.as_ref());
        let term = response.header.as_ref().map_or(0, |header| header.raft_term);
        let indexed = (1..=response.raft_index).contains(&response.raft_applied_index);
        let in_use = (1..=response.db_size).contains(&response.db_size_in_use);
        let minor = response.version.rsplit_once('.').map_or("", |(minor, _)| minor);
        out.push_str(&format!(" version={minor}.x storage={}", response.storage_version));
        out.push_str(&format!(" leader={}", self.member(response.leader)));
        out.push_str(&format!(" indexed={indexed} sized={in_use}"));
        out.push_str(&format!(" term-alike={}", response.raft_term == term));
        print::flag(&mut out, "learner", response.is_learner);
        print::number(&mut out, "quota", response.db_size_quota);
        out.push_str(&match &response.downgrade_info {
            Some(downgrade) => {
                format!(" downgrade={}:{:?}", downgrade.enabled, downgrade.target_version)
            }
            None => " no-downgrade".to_owned(),
        });
        for error in &response.errors {
            // Go's text form varies its blanks on purpose, so that nobody relies on them.
            let words: Vec<&str> = error.split_whitespace().collect();
            let text = words.join(" ").replace(&self.member_id.to_string(), "self");
            out.push_str(&format!("\n  error {text:?}"));
        }
        out
    }
}
