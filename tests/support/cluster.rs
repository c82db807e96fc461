//! The commands about members, and the health service.

use kvorum::pb::etcdserverpb::cluster_client::ClusterClient;
use kvorum::pb::health::{HealthCheckRequest, HealthListRequest, health_client::HealthClient};
use kvorum::pb::{self};
use tonic::transport::Channel;

use super::line::{Line, Outcome};
use super::print::{self, Printer};

/// Runs `member list [linearizable]`, `member add URL [learner]`, `member remove ID`,
/// `member update ID URL` or `member promote ID`; an id may be `self`, or `other`: that of the
/// member that was added last.
pub async fn run(channel: Channel, printer: &mut Printer, mut line: Line) -> Outcome {
    let mut client = ClusterClient::new(channel);
    let action = line.text("what to do")?;
    let status = match action.as_str() {
        "list" => {
            let linearizable = line.flag("linearizable");
            let response = client.member_list(pb::MemberListRequest { linearizable }).await;
            response
                .map(|got| printer.members(got.get_ref().header.as_ref(), &got.get_ref().members))
        }
        "add" => {
            let is_learner = line.flag("learner");
            let peer_ur_ls = urls(&mut line)?;
            let response = client.member_add(pb::MemberAddRequest { peer_ur_ls, is_learner }).await;
            response.map(|got| {
                let got = got.into_inner();
                printer.added(got.member.unwrap_or_default());
                printer.members(got.header.as_ref(), &got.members)
            })
        }
        "remove" => {
            let id = id(&mut line, printer)?;
            let response = client.member_remove(pb::MemberRemoveRequest { id }).await;
            response
                .map(|got| printer.members(got.get_ref().header.as_ref(), &got.get_ref().members))
        }
        "update" => {
            let id = id(&mut line, printer)?;
            let peer_ur_ls = urls(&mut line)?;
            let response = client.member_update(pb::MemberUpdateRequest { id, peer_ur_ls }).await;
            response
                .map(|got| printer.members(got.get_ref().header.as_ref(), &got.get_ref().members))
        }
        "promote" => {
            let id = id(&mut line, printer)?;
            let response = client.member_promote(pb::MemberPromoteRequest { id }).await;
            response
                .map(|got| printer.members(got.get_ref().header.as_ref(), &got.get_ref().members))
        }
        other => return Err(format!("a member knows no {other}").into()),
    };
    line.finish()?;
    Ok(status.unwrap_or_else(|status| print::status(&status)))
}

fn id(line: &mut Line, printer: &Printer) -> Outcome<u64> {
    Ok(match line.text("id")?.as_str() {
        "self" => printer.member_id,
        "other" => printer.other_id,
        number => number.parse()?,
    })
}

/// The rest of the words.
fn urls(line: &mut Line) -> Outcome<Vec<String>> {
    let mut urls = Vec::new();
    while let Some(word) = line.maybe_word() {
        urls.push(String::from_utf8(word)?);
    }
    Ok(urls)
}

/// Runs `health check [SERVICE]` or `health list`.
pub async fn health(channel: Channel, mut line: Line) -> Outcome {
    let mut client = HealthClient::new(channel);
    let status = match line.text("what to do")?.as_str() {
        "check" => {
            let service = String::from_utf8(line.maybe_word().unwrap_or_default())?;
            let response = client.check(HealthCheckRequest { service }).await;
            response.map(|got| got.get_ref().status().as_str_name().to_owned())
        }
        "list" => client.list(HealthListRequest {}).await.map(|got| {
            let statuses = got.get_ref().statuses.iter();
            let mut lines: Vec<String> = statuses
                .map(|(service, health)| format!("{service:?} {}", health.status().as_str_name()))
                .collect();
            lines.sort();
            lines.join("\n")
        }),
        other => return Err(format!("health knows no {other}").into()),
    };
    line.finish()?;
    Ok(status.unwrap_or_else(|status| print::status(&status)))
}

impl Printer {
    /// Remembers a member that was added.
    fn added(&mut self, member: pb::Member) {
        self.other_id = member.id;
    }

    fn members(&mut self, header: Option<&pb::ResponseHeader>, members: &[pb::Member]) -> String {
        let mut out = self.header(header);
        let mut lines: Vec<String> = members.iter().map(|member| self.described(member)).collect();
        lines.sort();
        for line in lines {
            out.push_str(&format!("\n  {line}"));
        }
        out
    }

    /// A new member's id comes from the clock, so it is only told from one's own.
    fn described(&self, member: &pb::Member) -> String {
        let id = if member.id == self.member_id { "self" } else { "other" };
        let mut out = format!("member={id} name={:?}", member.name);
        out.push_str(&format!(" peer={:?}", member.peer_ur_ls));
        out.push_str(&format!(" client={:?}", member.client_ur_ls));
        print::flag(&mut out, "learner", member.is_learner);
        out
    }
}
