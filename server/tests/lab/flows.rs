//! Without faults: every flow is in the database once, to the byte, in the right minutes and directions.

use std::collections::BTreeSet;

use anyhow::ensure;

use crate::api;
use crate::lab::Lab;
use crate::namespaces::{Place, read_sysctl};
use crate::outside::Site;
use crate::traffic::{Amount, Steady, Traffic};

/// Conversations of each worker.
const CONVERSATIONS: usize = 30;
/// What must have ended at the least.
const FLOWS: usize = 300;
/// What the traffic consists of: protocol, whether it is IPv6, and direction. `in` over IPv4 and `lan` come by a port
/// forward.
const KINDS: [(u8, bool, &str); 19] = [
    (1, false, "local"),
    (1, false, "out"),
    (6, false, "in"),
    (6, false, "lan"),
    (6, false, "local"),
    (6, false, "out"),
    (6, true, "in"),
    (6, true, "local"),
    (6, true, "out"),
    (17, false, "in"),
    (17, false, "lan"),
    (17, false, "local"),
    (17, false, "out"),
    (17, true, "in"),
    (17, true, "local"),
    (17, true, "out"),
    (58, true, "in"),
    (58, true, "local"),
    (58, true, "out"),
];

/// Issue: shown when, 2.
pub(crate) fn every_flow_once(site: &Site) -> anyhow::Result<()> {
    let mut lab = Lab::start(site)?;
    for name in ["acct", "timestamp", "events"] {
        let value = read_sysctl(Place::Router, &format!("net.netfilter.nf_conntrack_{name}"))?;
        ensure!(value == "1", "the agent left nf_conntrack_{name} at {value}");
    }
    let steady = Steady::start(site.seed)?;
    Traffic::start(site.seed, Amount::Each(CONVERSATIONS)).finish()?;

    let silent = steady.quieten()?;
    let account = lab.agree()?;
    ensure!(
        account.open > silent.len(),
        "{} connections are held open, and there is the agent's",
        silent.len()
    );
    let sums = lab.agree_on_totals()?;
    println!("{} flows ended, {} open, in all {sums:?}", account.watched(), account.open);

    drop(silent);
    let account = lab.agree()?;
    let sums = lab.agree_on_totals()?;
    println!("{} flows ended, {} open, in all {sums:?}", account.watched(), account.open);
    for ((protocol, direction), count) in &account.equal {
        println!("  protocol {protocol:2} {direction:7} {count:4}");
    }
    ensure!(account.watched() >= FLOWS, "only {} flows: the traffic is too tame", account.watched());
    let flows = api::flows()?;
    let seen: BTreeSet<(u8, bool, &str)> = flows
        .iter()
        .filter(|flow| flow.ended)
        .map(|flow| (flow.key.protocol, flow.key.src.is_ipv6(), flow.direction.as_str()))
        .collect();
    ensure!(seen.is_superset(&KINDS.into()), "not all kinds of flows: {seen:?}");
    ensure!(
        account.unseen + account.absent == 0,
        "flows from before the agent's start are shown: {account:?}"
    );
    lab.stop_agent()
}
