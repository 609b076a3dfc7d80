//! Without faults: every flow is in the database once, to the byte, in the right minutes and directions.

use std::collections::BTreeSet;

use anyhow::ensure;

use crate::lab::Lab;
use crate::namespaces::{Place, read_sysctl};
use crate::outside::Site;
use crate::traffic::{Amount, Steady, Traffic};

/// Conversations of each worker.
const CONVERSATIONS: usize = 30;
/// What must have ended at the least.
const FLOWS: usize = 300;
/// What the traffic consists of: protocol and direction.
const KINDS: [(u8, &str); 13] = [
    (1, "local"),
    (1, "out"),
    (6, "in"),
    (6, "lan"),
    (6, "local"),
    (6, "out"),
    (17, "in"),
    (17, "lan"),
    (17, "local"),
    (17, "out"),
    (58, "in"),
    (58, "local"),
    (58, "out"),
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
    let seen: BTreeSet<(u8, &str)> =
        account.equal.keys().map(|(protocol, way)| (*protocol, way.as_str())).collect();
    ensure!(seen.is_superset(&KINDS.into()), "not all kinds of flows: {seen:?}");
    ensure!(
        account.unseen + account.absent == 0,
        "flows from before the agent's start are shown: {account:?}"
    );
    lab.stop_agent()
}
