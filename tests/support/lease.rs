//! The commands of the Lease service. What depends on the clock is printed as a bound.

use kvorum::pb::etcdserverpb::lease_client::LeaseClient;
use kvorum::pb::{self};
use tonic::Status;
use tonic::transport::Channel;

use super::line::{Line, Outcome};
use super::print::{self, Printer};

/// How much of a lease may be gone by the time it is looked at.
const SECONDS_LOST_MAX: i64 = 30;

/// Runs `lease grant TTL ID`, `lease revoke ID`, `lease ttl ID [keys]` or `lease list`.
pub async fn run(channel: Channel, printer: &mut Printer, mut line: Line) -> Outcome {
    let mut client = LeaseClient::new(channel);
    let status = match line.text("what to do")?.as_str() {
        "grant" => {
            let request =
                pb::LeaseGrantRequest { ttl: line.number("ttl")?, id: line.number("id")? };
            line.finish()?;
            client.lease_grant(request).await.map(|got| printer.grant(request.id, got.get_ref()))
        }
        "revoke" => {
            let id = line.number("id")?;
            line.finish()?;
            let response = client.lease_revoke(pb::LeaseRevokeRequest { id }).await;
            response.map(|got| printer.header(got.get_ref().header.as_ref()))
        }
        "ttl" => {
            let id = line.number("id")?;
            let keys = line.flag("keys");
            line.finish()?;
            let response = client.lease_time_to_live(pb::LeaseTimeToLiveRequest { id, keys }).await;
            response.map(|got| printer.time_to_live(got.get_ref()))
        }
        "list" => {
            line.finish()?;
            let response = client.lease_leases(pb::LeaseLeasesRequest {}).await;
            response.map(|got| printer.leases(got.get_ref()))
        }
        other => return Err(format!("a lease knows no {other}").into()),
    };
    Ok(status.unwrap_or_else(|status| print::status(&status)))
}

/// Runs `keepalive ID {ID}`: all renewals on one stream, then its end.
pub async fn keep_alive(channel: Channel, printer: &mut Printer, mut line: Line) -> Outcome {
    let mut requests = Vec::new();
    while let Some(id) = line.maybe_word() {
        let id = String::from_utf8(id)?.parse()?;
        requests.push(pb::LeaseKeepAliveRequest { id });
    }
    line.finish()?;
    let mut client = LeaseClient::new(channel);
    let mut out = Vec::new();
    let end = match client.lease_keep_alive(tokio_stream::iter(requests)).await {
        Ok(stream) => collect(stream.into_inner(), printer, &mut out).await,
        Err(status) => Err(status),
    };
    out.push(end.map_or_else(|status| print::status(&status), |()| "end".to_owned()));
    Ok(out.join("\n"))
}

async fn collect(
    mut stream: tonic::Streaming<pb::LeaseKeepAliveResponse>,
    printer: &mut Printer,
    out: &mut Vec<String>,
) -> Result<(), Status> {
    while let Some(response) = stream.message().await? {
        let header = printer.header(response.header.as_ref());
        out.push(format!("{header} id={} ttl={}", response.id, response.ttl));
    }
    Ok(())
}

impl Printer {
    fn grant(&mut self, wanted: i64, response: &pb::LeaseGrantResponse) -> String {
        let mut out = self.header(response.header.as_ref());
        match (wanted, response.id) {
            (0, 1..) => out.push_str(" id=chosen"),
            (_, id) => out.push_str(&format!(" id={id}")),
        }
        print::number(&mut out, "ttl", response.ttl);
        if !response.error.is_empty() {
            out.push_str(&format!(" error={:?}", response.error));
        }
        out
    }

    /// The time left is `ttl=GRANTED-` when it is the granted time or a little less.
    fn time_to_live(&mut self, response: &pb::LeaseTimeToLiveResponse) -> String {
        let mut out = self.header(response.header.as_ref());
        let (ttl, granted) = (response.ttl, response.granted_ttl);
        let running = ttl > 0 && ttl <= granted && granted - ttl <= SECONDS_LOST_MAX;
        let left = if running { format!("{granted}-") } else { ttl.to_string() };
        out.push_str(&format!(" id={} ttl={left}", response.id));
        print::number(&mut out, "granted", granted);
        let mut keys = response.keys.clone();
        keys.sort();
        print::list(&mut out, &keys, print::bytes);
        out
    }

    fn leases(&mut self, response: &pb::LeaseLeasesResponse) -> String {
        let mut out = self.header(response.header.as_ref());
        for lease in &response.leases {
            out.push_str(&format!("\n  id={}", lease.id));
        }
        out
    }
}
