//! Probes: whether a member answers, how fast, and what its clock shows.
//!
//! As in etcd there are two for each member, every few seconds: on a connection such as streams
//! have, and on one such as messages are posted on. What they find goes into the metrics; what an
//! operator should look at is logged when it begins, and again only after it was over.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use serde::Deserialize;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::dial::{Connection, Trouble, text, whole};
use super::headers::Unwelcome;
use super::outward::Line;
use crate::limits;

/// What the connections are called in the log, in etcd's words.
pub(super) const ROUND_TRIPPERS: [&str; 2] =
    ["ROUND_TRIPPER_RAFT_MESSAGE", "ROUND_TRIPPER_SNAPSHOT"];

/// How much of a new round trip goes into the smoothed one, as in etcd.
const WEIGHT: f64 = 0.125;

/// The answer to a probe.
#[derive(Deserialize)]
struct Probed {
    #[serde(rename = "OK")]
    ok: bool,
    #[serde(rename = "Now")]
    now: String,
}

impl Line {
    /// Probes the member as long as the task lives.
    pub async fn probe(self, round_tripper: &'static str) {
        let period = limits::PEER_PROBE_PERIOD;
        let mut ticks = interval_at(Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut kept, mut turn, mut health) = (None, 0u64, Health::default());
        let peer_id = format!("{:x}", self.remote.id);
        loop {
            ticks.tick().await;
            match self.probe_once(&mut kept, turn).await {
                Ok((took, now)) => {
                    let smoothed = health.answered(took);
                    self.remote.metrics.round_trip_seconds.observe(smoothed.as_secs_f64());
                    if let Some(drift) = now.and_then(|now| health.drifted(now, SystemTime::now()))
                    {
                        let (drift, rtt) = (drift.as_secs_f64(), smoothed.as_secs_f64());
                        tracing::warn!(
                            round_tripper,
                            peer_id,
                            clock_drift_s = drift,
                            rtt_s = rtt,
                            "prober found high clock drift"
                        );
                    }
                }
                Err(error) => {
                    (kept, turn) = (None, turn.wrapping_add(1));
                    if health.failed() {
                        tracing::warn!(
                            round_tripper,
                            peer_id,
                            %error,
                            "prober detected unhealthy status"
                        );
                    }
                }
            }
        }
    }

    /// How long the answer took, and what clock it shows.
    async fn probe_once(
        &self,
        kept: &mut Option<Connection>,
        turn: u64,
    ) -> Result<(Duration, Option<SystemTime>), Trouble> {
        let mut connection = match kept.take().filter(Connection::is_open) {
            Some(connection) => connection,
            None => self.connect(turn, limits::PEER_IO_TIMEOUT).await?,
        };
        let asked = Instant::now();
        let body = whole(Bytes::new());
        let answer = connection.ask(Method::GET, "/raft/probing", HeaderMap::new(), body).await?;
        let status = answer.status();
        let text = text(answer.into_body()).await;
        let took = asked.elapsed();
        let Some((true, time)) = read(&text).filter(|_| status == StatusCode::OK) else {
            return Err(Unwelcome::Unexpected { status: status.as_u16(), text }.into());
        };
        *kept = Some(connection);
        Ok((took, time))
    }
}

/// What an answer says: whether all is well, and the time.
pub(super) fn read(text: &str) -> Option<(bool, Option<SystemTime>)> {
    let probed = serde_json::from_str::<Probed>(text).ok()?;
    Some((probed.ok, read_time(&probed.now)))
}

/// What the probes of one kind have shown.
#[derive(Debug, Default)]
struct Health {
    smoothed: Option<Duration>,
    /// It does not answer, and that was logged.
    told_failed: bool,
    /// Its clock is wrong, and that was logged.
    told_drifted: bool,
}

impl Health {
    /// It answered; the smoothed round trip.
    fn answered(&mut self, took: Duration) -> Duration {
        self.told_failed = false;
        let before = self.smoothed.unwrap_or(took);
        let smoothed = before.mul_f64(1.0 - WEIGHT) + took.mul_f64(WEIGHT);
        self.smoothed = Some(smoothed);
        smoothed
    }

    /// It did not answer; whether that is news.
    fn failed(&mut self) -> bool {
        !std::mem::replace(&mut self.told_failed, true)
    }

    /// By how much its clock differs, if that is too much and news. It was read half a round trip
    /// ago.
    fn drifted(&mut self, its: SystemTime, ours: SystemTime) -> Option<Duration> {
        let its = its + self.smoothed.unwrap_or_default() / 2;
        let drift = ours.duration_since(its).unwrap_or_else(|behind| behind.duration());
        let is_high = drift > limits::PEER_CLOCK_DRIFT_MAX;
        let told = std::mem::replace(&mut self.told_drifted, is_high);
        (is_high && !told).then_some(drift)
    }
}

/// A time after 1970 as RFC 3339 writes it, with any offset and fraction.
fn read_time(text: &str) -> Option<SystemTime> {
    let (date, time) = text.split_once('T')?;
    let at = time.find(['Z', '+', '-'])?;
    let (clock, zone) = time.split_at(at);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(clock, ':')?;
    let is_date = (1970..10_000).contains(&year) && (1..=12).contains(&month);
    if !is_date || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let offset = match zone.split_at(1) {
        ("Z", "") => 0,
        (sign, zone) => {
            let [hours, minutes] = numbers(zone, ':').filter(|[h, m]| *h < 24 && *m < 60)?;
            (hours * 60 + minutes) * if sign == "-" { -60 } else { 60 }
        }
    };
    let of_day = hour * 3600 + minute * 60 + second;
    let seconds = days(year, month, day) * 86_400 + of_day - offset;
    let digits = fraction.bytes().all(|byte| byte.is_ascii_digit());
    let nanos = format!("{fraction:0<9}").get(..9).filter(|_| digits)?.parse().ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(u64::try_from(seconds).ok()?, nanos))
}

/// Numbers without signs, separated.
fn numbers<const N: usize>(text: &str, separator: char) -> Option<[i64; N]> {
    let read = |part: &str| {
        let digits = (1..=4).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| part.parse().ok()).flatten()
    };
    let parts: Vec<i64> = text.split(separator).map(read).collect::<Option<_>>()?;
    parts.try_into().ok()
}

/// Days since 1970 began. A year begins in March here, so that the leap day ends it.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    // From March on every five months have 153 days.
    let before_month = (153 * month + 2) / 5;
    // The number of the first day of 1970, counted so.
    365 * year + leap_days + before_month + day - 719_469
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_go_and_we_write_them() {
        for (text, seconds, nanos) in [
            ("1970-01-01T00:00:00Z", 0, 0),
            ("2000-02-29T23:59:59.5Z", 951_868_799, 500_000_000),
            ("2026-11-21T20:14:10.754971123+01:00", 1_795_288_450, 754_971_123),
            ("2026-11-21T18:44:10.754971-00:30", 1_795_288_450, 754_971_000),
            ("2100-03-01T00:00:00Z", 4_107_542_400, 0),
        ] {
            let time = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos);
            assert_eq!(read_time(text), Some(time), "{text}");
        }
        for text in ["", "2026-11-21", "1969-12-31T00:00:00Z", "2026-13-01T00:00:00Z"] {
            assert_eq!(read_time(text), None, "{text}");
        }
        for text in
            ["2026-11-21T20:14:10", "2026-11-21T20:14:10.é234567890Z", "T-Z", "1970-01-01T+"]
        {
            assert_eq!(read_time(text), None, "{text}");
        }
    }

    #[test]
    fn what_goes_on_is_told_once() {
        let (mut health, ms) = (Health::default(), Duration::from_millis);
        assert_eq!([health.failed(), health.failed(), health.failed()], [true, false, false]);
        assert_eq!(health.answered(ms(80)), ms(80));
        assert_eq!(health.answered(ms(160)), ms(90), "an eighth of what is new");
        assert_eq!([health.failed(), health.failed()], [true, false]);
        let ours = SystemTime::UNIX_EPOCH + ms(100_000);
        assert_eq!(health.drifted(ours - ms(1045), ours), None, "half of it was the way");
        assert_eq!(health.drifted(ours - ms(2045), ours), Some(ms(2000)));
        assert_eq!(health.drifted(ours - ms(3000), ours), None, "it was told");
        assert_eq!(health.drifted(ours, ours), None);
        assert_eq!(health.drifted(ours + ms(5000), ours), Some(ms(5045)), "the other way");
    }
}
