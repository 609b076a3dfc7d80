//! With faults: both programs killed, the link cut, the stream doubled, in random order amid traffic.

use std::time::{Duration, SystemTime};

use anyhow::ensure;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use crate::api;
use crate::lab::Lab;
use crate::namespaces;
use crate::outside::Site;
use crate::proxy::Proxy;
use crate::traffic::{Amount, Steady, Traffic};
use crate::wait;

/// What an agent has read when it is killed is known to this. An end that the kernel told earlier than this
/// before the kill counts as watched.
const MARGIN: Duration = Duration::from_secs(1);
/// For the agent to have a new connection after its old one was reset.
const RECONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Of the flows, the part in percent that must have ended while watched, so that the test says something.
const WATCHED_PERCENT: usize = 30;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    ServerKilled,
    AgentKilled,
    LinkCut,
    /// The agent comes back while the server still has its old stream, and that goes on.
    StreamDoubled,
}

const FAULTS: [Fault; 8] = [
    Fault::ServerKilled,
    Fault::ServerKilled,
    Fault::ServerKilled,
    Fault::AgentKilled,
    Fault::AgentKilled,
    Fault::AgentKilled,
    Fault::LinkCut,
    Fault::StreamDoubled,
];

/// Issue: shown when, 3.
pub(crate) fn counted_once_whatever_happens(site: &Site) -> anyhow::Result<()> {
    let mut rng = StdRng::seed_from_u64(site.seed);
    let mut faults = FAULTS;
    faults.shuffle(&mut rng);
    let (mut lab, proxy) = Lab::start_with_proxy(site)?;
    let steady = Steady::start(site.seed)?;
    let traffic = Traffic::start(site.seed, Amount::UntilFinished);
    for fault in faults {
        lab.pass(millis(&mut rng, 200, 1_000))?;
        eprintln!("{fault:?}");
        strike(fault, &mut lab, &proxy, &mut rng)?;
    }
    lab.pass(millis(&mut rng, 1_000, 2_000))?;
    traffic.finish()?;

    let silent = steady.quieten()?;
    ensure!(lab.agree()?.open > silent.len(), "a connection that is held open is not in the table");
    drop(silent);
    let ended = lab.agree()?;
    let sums = lab.agree_on_totals()?;
    let exact = ended.watched() + ended.equal_by_luck;
    let inexact = ended.unseen + ended.absent;
    println!(
        "{faults:?}\n{} flows ended while watched, all equal; {} others, of them {} equal, {} unseen ends, {} absent; \
         in all {sums:?}",
        ended.watched(),
        ended.equal_by_luck + inexact,
        ended.equal_by_luck,
        ended.unseen,
        ended.absent,
    );
    ensure!(
        ended.watched() * 100 >= (exact + inexact) * WATCHED_PERCENT,
        "too little was watched: {ended:?}"
    );
    gaps_tell(ended.unseen, &ended.inexact_ends)
}

fn strike(fault: Fault, lab: &mut Lab, proxy: &Proxy, rng: &mut StdRng) -> anyhow::Result<()> {
    match fault {
        Fault::ServerKilled => {
            lab.kill_server()?;
            lab.pass(millis(rng, 0, 1_500))?;
            lab.start_server()
        }
        Fault::AgentKilled => {
            let since = SystemTime::now() - MARGIN;
            lab.kill_agent()?;
            lab.pass(millis(rng, 0, 1_500))?;
            lab.start_agent(since)
        }
        Fault::LinkCut => {
            namespaces::set_link_to_server(false)?;
            lab.pass(millis(rng, 500, 2_500))?;
            namespaces::set_link_to_server(true)
        }
        Fault::StreamDoubled => double_stream(lab, proxy, rng),
    }
}

/// The agent loses its connection without the server's knowledge: what it had sent since is under way, and it
/// hears of no acks. It sends everything again on a new stream, and then the old one goes on.
fn double_stream(lab: &Lab, proxy: &Proxy, rng: &mut StdRng) -> anyhow::Result<()> {
    // Only a connection with a stream on it carries batches.
    let before = api::totals()?;
    wait::until(
        "the server hears of more",
        RECONNECT_LIMIT,
        || Ok((api::totals()? != before).then_some(())),
    )?;
    let held = proxy.hold();
    lab.pass(millis(rng, 500, 1_500))?;
    held.iter().for_each(|connection| connection.cut());
    wait::until("the server answers on another connection", RECONNECT_LIMIT, || {
        Ok(proxy.has_answered().then_some(()))
    })?;
    lab.pass(millis(rng, 0, 300))?;
    let before = api::duplicate_batches()?;
    for connection in held {
        let bytes = connection.release()?;
        eprintln!("{bytes} bytes held back");
    }
    wait::until("batches come to the server a second time", RECONNECT_LIMIT, || {
        Ok((api::duplicate_batches()? > before).then_some(()))
    })
}

/// What is not known exactly must be told: as times without an agent around it, and as ends that were not
/// seen.
fn gaps_tell(unseen: usize, inexact_ends: &[SystemTime]) -> anyhow::Result<()> {
    let gaps = api::gaps()?;
    let down: Vec<&api::Gap> = gaps.iter().filter(|gap| gap.cause == "agent_down").collect();
    let kills = FAULTS.iter().filter(|fault| **fault == Fault::AgentKilled).count();
    ensure!(down.len() == kills, "{kills} times without an agent, told as {down:?}");
    let mut spans = Vec::new();
    // The ledger dates an end when it hears of it, which is not when the agent would have heard of it.
    let slack_us = MARGIN.as_micros() as i64;
    for gap in &down {
        ensure!(gap.count == 1, "one start, told as {gap:?}");
        spans.push((api::micros(&gap.from)? - slack_us, api::micros(&gap.to)? + slack_us));
    }
    for end in inexact_ends {
        let end_us = end.duration_since(SystemTime::UNIX_EPOCH)?.as_micros() as i64;
        ensure!(
            spans.iter().any(|(from, to)| (*from..=*to).contains(&end_us)),
            "a flow ended unseen at {end_us}, outside {spans:?}"
        );
    }
    let told: u64 = gaps.iter().filter(|gap| gap.cause == "flow_end_unseen").map(|gap| gap.count).sum();
    ensure!(told == unseen as u64, "{unseen} flows with an unseen end, {told} told of: {gaps:?}");
    Ok(())
}

fn millis(rng: &mut StdRng, from: u64, to: u64) -> Duration {
    Duration::from_millis(rng.random_range(from..=to))
}
