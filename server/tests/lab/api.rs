//! The server's account, read as any script would read it.

use std::io::{BufRead as _, BufReader};
use std::net::IpAddr;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::ctnetlink::{Counters, Detail, FlowKey};
use crate::daemon::{SERVER_URL, TOKEN};

/// For one answer of a server that may be busy catching up.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest page that the server gives.
const PAGE: usize = 1000;

/// A flow, as `GET /api/v1/flows` has it.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    pub(crate) key: FlowKey,
    pub(crate) direction: String,
    pub(crate) device: Option<IpAddr>,
    pub(crate) first_seen_us: i64,
    pub(crate) counters: Counters,
    /// The part of the counters from before the flow was watched.
    pub(crate) before: Counters,
    pub(crate) ended: bool,
    pub(crate) end_unseen: bool,
}

/// A gap, as `GET /api/v1/gaps` has it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Gap {
    pub(crate) cause: String,
    pub(crate) count: u64,
    pub(crate) from: String,
    pub(crate) to: String,
}

/// One of the sums of `GET /api/v1/totals`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) flows: u64,
    #[serde(flatten)]
    pub(crate) counters: Counters,
}

/// `GET /api/v1/totals`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) flows: Sums,
    pub(crate) device_minutes: Sums,
    pub(crate) device_hours: Sums,
    pub(crate) device_days: Sums,
    pub(crate) service_minutes: Sums,
    pub(crate) service_hours: Sums,
    pub(crate) service_days: Sums,
    pub(crate) host_minutes: Sums,
    pub(crate) host_hours: Sums,
    pub(crate) host_days: Sums,
    pub(crate) agree: bool,
}

#[derive(Deserialize)]
struct List<T> {
    items: Vec<T>,
    next: Option<String>,
}

#[derive(Deserialize)]
struct FlowItem {
    direction: String,
    device: Option<IpAddr>,
    protocol: String,
    src_ip: IpAddr,
    src_port: u16,
    dst_ip: IpAddr,
    dst_port: u16,
    icmp_type: Option<u8>,
    icmp_code: Option<u8>,
    icmp_id: Option<u16>,
    first_seen: String,
    #[serde(flatten)]
    counters: Counters,
    bytes_orig_before: u64,
    bytes_reply_before: u64,
    packets_orig_before: u64,
    packets_reply_before: u64,
    ended: bool,
    end_unseen: bool,
}

/// Every flow that the server knows, open or ended.
pub(crate) fn flows() -> anyhow::Result<Vec<Flow>> {
    let items: Vec<FlowItem> = all("flows")?;
    items.into_iter().map(Flow::try_from).collect()
}

/// Every gap.
pub(crate) fn gaps() -> anyhow::Result<Vec<Gap>> {
    all("gaps")
}

/// The sums over flows and over rollups.
pub(crate) fn totals() -> anyhow::Result<Totals> {
    get("/api/v1/totals")
}

/// How many batches came again after their commit, since the server's start.
pub(crate) fn duplicate_batches() -> anyhow::Result<u64> {
    let metrics = text("/metrics")?;
    let count = metrics.lines().find_map(|line| line.strip_prefix("netmon_server_duplicate_batches_total "));
    Ok(count.with_context(|| format!("no count of duplicates: {metrics:.300}"))?.parse()?)
}

/// Microseconds since 1970 of an RFC 3339 time.
pub(crate) fn micros(text: &str) -> anyhow::Result<i64> {
    let time = OffsetDateTime::parse(text, &Rfc3339).with_context(|| format!("not RFC 3339: {text:?}"))?;
    Ok((time.unix_timestamp_nanos() / 1000).try_into()?)
}

fn all<T: DeserializeOwned>(list: &str) -> anyhow::Result<Vec<T>> {
    let mut items = Vec::new();
    let mut cursor = String::new();
    loop {
        let page: List<T> = get(&format!("/api/v1/{list}?limit={PAGE}{cursor}"))?;
        items.extend(page.items);
        match page.next {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(items),
        }
    }
}

/// What the server says of this path: 200, 503.
pub(crate) fn status(path: &str) -> anyhow::Result<u16> {
    Ok(request(path)?.0)
}

/// The body of this path, whatever its status.
pub(crate) fn text(path: &str) -> anyhow::Result<String> {
    Ok(request(path)?.1)
}

fn get<T: DeserializeOwned>(path: &str) -> anyhow::Result<T> {
    let (status, text) = request(path)?;
    ensure!(status == 200, "{path}: {status} {text:.300}");
    serde_json::from_str(&text).with_context(|| format!("{path}: {text:.300}"))
}

/// One request on a connection of its own: the server may have been replaced since the last one.
fn request(path: &str) -> anyhow::Result<(u16, String)> {
    let config = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).http_status_as_error(false);
    let mut response = ureq::Agent::from(config.build())
        .get(format!("{SERVER_URL}{path}"))
        .header("Authorization", format!("Bearer {TOKEN}"))
        .call()?;
    Ok((response.status().as_u16(), response.body_mut().read_to_string()?))
}

impl TryFrom<FlowItem> for Flow {
    type Error = anyhow::Error;

    fn try_from(item: FlowItem) -> anyhow::Result<Self> {
        let protocol = match item.protocol.as_str() {
            "icmp" => 1,
            "tcp" => 6,
            "udp" => 17,
            "ipv6-icmp" => 58,
            other => bail!("a protocol that nobody used: {other}"),
        };
        let detail = match (item.icmp_type, item.icmp_code, item.icmp_id) {
            (Some(kind), Some(code), Some(id)) => Detail::Icmp(kind, code, id),
            (None, None, None) => Detail::Ports(item.src_port, item.dst_port),
            other => bail!("half of what ICMP has: {other:?}"),
        };
        Ok(Self {
            key: FlowKey { protocol, src: item.src_ip, dst: item.dst_ip, detail },
            direction: item.direction,
            device: item.device,
            first_seen_us: micros(&item.first_seen)?,
            counters: item.counters,
            before: Counters {
                bytes_orig: item.bytes_orig_before,
                bytes_reply: item.bytes_reply_before,
                packets_orig: item.packets_orig_before,
                packets_reply: item.packets_reply_before,
            },
            ended: item.ended,
            end_unseen: item.end_unseen,
        })
    }
}

/// A row of the live table, from a server-sent event.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct LiveRow {
    pub(crate) destination: String,
    pub(crate) port: String,
}

#[derive(Deserialize)]
struct Update {
    rows: Vec<LiveRow>,
}

/// Subscribes to the live table. Rows come with the time of their arrival.
pub(crate) fn subscribe() -> anyhow::Result<Receiver<(Instant, LiveRow)>> {
    let agent = ureq::Agent::from(ureq::Agent::config_builder().build());
    let response = agent
        .get(format!("{SERVER_URL}/live/events"))
        .header("Authorization", format!("Bearer {TOKEN}"))
        .header("Accept", "text/event-stream")
        .call()?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || -> anyhow::Result<()> {
        for line in BufReader::new(response.into_body().into_reader()).lines() {
            let line = line?;
            let at = Instant::now();
            let Some(data) = line.strip_prefix("data:") else { continue };
            for row in serde_json::from_str::<Update>(data)?.rows {
                sender.send((at, row)).map_err(|_| anyhow!("nobody listens any more"))?;
            }
        }
        Ok(())
    });
    Ok(receiver)
}
