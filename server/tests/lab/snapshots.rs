//! `netmon-server ingest-once`: what the kernel of the router has open, without an agent.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use netmon_server::domain::{Counters, End, FlowRecord};
use netmon_server::store::{DatabaseUrl, Store};

use crate::conversation::{Carrier, Close, Conversation};
use crate::ctnetlink::{self, Detail, Entry, FlowKey};
use crate::namespaces::{self, LAN_V4, LAN_V6, Place, WAN_V4, WAN_V6};
use crate::outside::Site;
use crate::{conversation, wait};

const LIMIT: Duration = Duration::from_secs(30);

/// Runs it in the router. `wrapper` is what starts the program.
fn ingest(data: &Path, wrapper: &[&str]) -> anyhow::Result<Output> {
    let program = env!("CARGO_BIN_EXE_netmon-server");
    let words: Vec<&str> = wrapper.iter().copied().chain([program, "ingest-once", "--data"]).collect();
    let [first, rest @ ..] = &words[..] else { unreachable!("the program is one") };
    Ok(Place::Router.command(first).args(rest).arg(data).output()?)
}

/// The same, and its line.
fn ingested(data: &Path) -> anyhow::Result<String> {
    let output = ingest(data, &[])?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// What is stored: open flows, and ended ones.
fn stored(data: &Path) -> anyhow::Result<(Vec<FlowRecord>, Vec<FlowRecord>)> {
    let store = Store::open(&DatabaseUrl::Sqlite(data.join("netmon.db")))?;
    let known = store.writer()?.attach_router("snapshot", 0)?;
    let totals = store.reader().totals()?;
    ensure!(totals.agree(), "{totals:?}");
    Ok((known.open, known.ended))
}

fn key(flow: &FlowRecord) -> FlowKey {
    let tuple = &flow.key.tuple;
    let detail = match flow.icmp {
        Some(icmp) => Detail::Icmp(icmp.kind, icmp.code, icmp.id),
        None => Detail::Ports(tuple.src_port, tuple.dst_port),
    };
    FlowKey { protocol: flow.key.protocol, src: tuple.src, dst: tuple.dst, detail }
}

fn counters(entry: &Entry) -> anyhow::Result<Counters> {
    let counters = entry.counters;
    Ok(Counters {
        bytes_orig: counters.bytes_orig.try_into()?,
        bytes_reply: counters.bytes_reply.try_into()?,
        packets_orig: counters.packets_orig.try_into()?,
        packets_reply: counters.packets_reply.try_into()?,
    })
}

/// The table by the lab's own reading, when nothing moves any more.
fn table() -> anyhow::Result<Vec<Entry>> {
    wait::until("the table is still", LIMIT, || {
        let figures = |entries: &[Entry]| {
            let mut figures: Vec<_> = entries.iter().map(|entry| (entry.key, entry.counters)).collect();
            figures.sort();
            figures
        };
        let before = ctnetlink::dump(Place::Router)?;
        std::thread::sleep(Duration::from_millis(100));
        let now = ctnetlink::dump(Place::Router)?;
        Ok((figures(&before) == figures(&now)).then_some(now))
    })
}

/// Every open flow is an entry of the table, to the byte, and every entry is an open flow.
fn compare(open: &[FlowRecord], table: &[Entry]) -> anyhow::Result<()> {
    ensure!(open.len() == table.len(), "stored {open:?}, in the table {table:?}");
    for entry in table {
        let flow = open.iter().find(|flow| key(flow) == entry.key);
        let flow = flow.with_context(|| format!("not stored: {entry:?}"))?;
        ensure!(flow.counters == counters(entry)?, "{flow:?} is not {entry:?}");
        ensure!(flow.responder() == entry.responder, "{flow:?} is not {entry:?}");
    }
    Ok(())
}

fn open(from: IpAddr, to: IpAddr) -> anyhow::Result<Conversation> {
    let service = conversation::serve_tcp(Place::Wan, SocketAddr::new(to, 0))?;
    let mut opened =
        Place::Lan.within(|| Conversation::open(Carrier::Tcp, SocketAddr::new(from, 0), service))?;
    opened.round(1_000, 20_000)?;
    Ok(opened)
}

pub(crate) fn the_kernels_table_is_stored(site: &Site) -> anyhow::Result<()> {
    namespaces::lay_out()?;
    namespaces::sysctl(Place::Router, "net.netfilter.nf_conntrack_acct", 1)?;
    let data = site.directory.join("snapshots");
    let mut v4 = open(LAN_V4[0], WAN_V4[0])?;
    let v6 = open(LAN_V6[0], WAN_V6[0])?;

    // What was there had moved before anybody watched.
    let first = table()?;
    ensure!(first.len() == 2 && first.iter().all(|entry| entry.counters.bytes_reply > 20_000), "{first:?}");
    ensure!(ingested(&data)? == "2 flows: 2 new, 0 moved on; 0 ended");
    let (begun, ended) = stored(&data)?;
    compare(&begun, &first)?;
    ensure!(ended.is_empty() && begun.iter().all(|flow| flow.before == flow.counters), "{begun:?}");

    // The same once more is no news.
    ensure!(ingested(&data)? == "2 flows: 0 new, 0 moved on; 0 ended");
    ensure!(stored(&data)? == (begun.clone(), vec![]), "a snapshot of the same table changed something");

    // Progress, of one of them, by the same rows.
    v4.round(3_000, 50_000)?;
    let moved = table()?;
    ensure!(ingested(&data)? == "2 flows: 0 new, 1 moved on; 0 ended");
    let (open, ended) = stored(&data)?;
    compare(&open, &moved)?;
    ensure!(ended.is_empty(), "{ended:?}");
    for (flow, earlier) in open.iter().zip(&begun) {
        ensure!((flow.id, flow.before) == (earlier.id, earlier.before), "{flow:?} was {earlier:?}");
        ensure!((key(flow) == v4.key()) == (flow.counters != earlier.counters), "{flow:?} was {earlier:?}");
    }

    // What was closed ends; what is open stays so.
    let (closed, stays) = (v4.key(), v6.key());
    v4.close(Close::Reset)?;
    wait::until("the closed connection leaves the table", LIMIT, || {
        let entries = ctnetlink::dump(Place::Router)?;
        Ok(entries.iter().all(|entry| entry.key != closed).then_some(()))
    })?;
    ensure!(ingested(&data)? == "1 flows: 0 new, 0 moved on; 1 ended");
    let (open, ended) = stored(&data)?;
    ensure!(open.iter().map(key).eq([stays]), "{open:?}");
    ensure!(ended.iter().map(|flow| (key(flow), flow.end)).eq([(closed, Some(End::Unseen))]), "{ended:?}");

    // Without the right to ask: one line, and nothing is ended for it.
    let output = ingest(&data, &["setpriv", "--bounding-set=-net_admin"])?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(1), "{}: {said}", output.status);
    ensure!(output.stdout.is_empty() && said.lines().count() == 1, "{said}");
    ensure!(said.contains("run as root or with CAP_NET_ADMIN"), "{said}");
    ensure!(stored(&data)? == (open, ended), "a snapshot that failed changed something");
    drop(v6);
    Ok(())
}
