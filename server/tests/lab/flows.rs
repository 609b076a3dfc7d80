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
/// What the traffic consists of: protocol, version of IP, direction, and whether it came by the port forward. An echo
/// request from the wan over IPv4 ends at the router: there is no way in for it.
const KINDS: [(u8, u8, &str, bool); 19] = [
    (1, 4, "local", false),
    (1, 4, "out", false),
    (6, 4, "in", true),
    (6, 4, "lan", true),
    (6, 4, "local", false),
    (6, 4, "out", false),
    (6, 6, "in", false),
    (6, 6, "local", false),
    (6, 6, "out", false),
    (17, 4, "in", true),
    (17, 4, "lan", true),
    (17, 4, "local", false),
    (17, 4, "out", false),
    (17, 6, "in", false),
    (17, 6, "local", false),
    (17, 6, "out", false),
    (58, 6, "in", false),
    (58, 6, "local", false),
    (58, 6, "out", false),
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
    for (kind, count) in &account.equal {
        let way = if kind.forwarded { "by the forwarded port" } else { "" };
        println!("  IPv{} protocol {:2} {:7} {count:4} {way}", kind.version, kind.protocol, kind.direction);
    }
    ensure!(account.watched() >= FLOWS, "only {} flows: the traffic is too tame", account.watched());
    let seen: BTreeSet<_> = account
        .equal
        .keys()
        .map(|kind| (kind.protocol, kind.version, kind.direction.as_str(), kind.forwarded))
        .collect();
    let missing: Vec<_> = KINDS.iter().filter(|kind| !seen.contains(kind)).collect();
    ensure!(missing.is_empty(), "kinds of flows that did not occur: {missing:?}");
    ensure!(
        account.unseen + account.absent == 0,
        "flows from before the agent's start are shown: {account:?}"
    );
    lab.stop_agent()
}
