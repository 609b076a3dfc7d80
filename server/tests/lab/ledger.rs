//! The kernel's own account: every flow that ended, with its final counters, in the order of their ends.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{anyhow, ensure};

use crate::ctnetlink::{self, Entry, FlowKey};
use crate::namespaces::{self, Place};
use crate::outside::Site;
use crate::traffic::{Amount, Services, Traffic};
use crate::wait;

/// A flow that is over.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    /// With its final counters.
    pub(crate) entry: Entry,
    /// When the kernel told of it.
    pub(crate) at: SystemTime,
}

/// Listens in the router from `open` on.
pub(crate) struct Ledger {
    records: Arc<Mutex<Records>>,
}

#[derive(Default)]
struct Records {
    ended: Vec<Ended>,
    /// What tells one flow from every other. A kernel that could not deliver an end to every listener tells
    /// it again to all.
    known: HashSet<(FlowKey, u32, u64)>,
    failure: Option<String>,
}

impl Ledger {
    /// Turns on what makes the kernel keep accounts: counters, starts, and ends of flows that nobody
    /// listened to when they began.
    pub(crate) fn turn_on_accounting() -> anyhow::Result<()> {
        for name in ["acct", "timestamp", "events"] {
            namespaces::sysctl(Place::Router, &format!("net.netfilter.nf_conntrack_{name}"), 1)?;
        }
        Ok(())
    }

    /// Starts to listen.
    pub(crate) fn open() -> anyhow::Result<Self> {
        let socket = ctnetlink::subscribe(Place::Router)?;
        let records = Arc::new(Mutex::new(Records::default()));
        let theirs = Arc::clone(&records);
        thread::Builder::new().name("ledger".into()).spawn(move || listen(&socket, &theirs))?;
        Ok(Self { records })
    }

    /// All that ended so far.
    pub(crate) fn ended(&self) -> anyhow::Result<Vec<Ended>> {
        let records = self.records.lock().map_err(|_| anyhow!("the ledger's thread panicked"))?;
        match &records.failure {
            Some(failure) => Err(anyhow!("the ledger is incomplete: {failure}")),
            None => Ok(records.ended.clone()),
        }
    }
}

fn listen(socket: &OwnedFd, records: &Mutex<Records>) {
    let mut buffer = Vec::new();
    loop {
        let received = ctnetlink::receive_ended(socket, &mut buffer);
        let at = SystemTime::now();
        let mut records = records.lock().expect("no holder panics");
        match received {
            Ok(entries) => {
                for entry in entries {
                    if records.known.insert((entry.key, entry.id, entry.start_ns)) {
                        records.ended.push(Ended { entry, at });
                    }
                }
            }
            Err(error) => {
                records.failure = Some(format!("{error:#}"));
                return;
            }
        }
    }
}

/// The harness by itself, without agent and server: every conversation that was had is in the ledger.
pub(crate) fn has_every_flow(site: &Site) -> anyhow::Result<()> {
    namespaces::lay_out()?;
    Ledger::turn_on_accounting()?;
    let ledger = Ledger::open()?;
    Services::start()?;
    let held = Traffic::start(site.seed, Amount::Each(10)).finish()?;
    wait::until("every flow has ended", Duration::from_secs(20), || {
        Ok(ctnetlink::dump(Place::Router)?.is_empty().then_some(()))
    })?;
    // The table is empty before the last events have been read.
    let ended = wait::until("the ledger has every flow", Duration::from_secs(5), || {
        let ended = ledger.ended()?;
        let keys: HashSet<FlowKey> = ended.iter().map(|ended| ended.entry.key).collect();
        Ok(held.iter().all(|key| keys.contains(key)).then_some(ended))
    })?;
    for Ended { entry, .. } in &ended {
        let counters = entry.counters;
        ensure!(counters.packets_orig > 0 && counters.bytes_orig > 0, "{entry:?} without counters");
        ensure!(entry.start_ns > 0, "{entry:?} without a start");
    }
    let keys: HashSet<FlowKey> = ended.iter().map(|ended| ended.entry.key).collect();
    println!("{} conversations, {} flows, {} tuples", held.len(), ended.len(), keys.len());
    ensure!(keys.len() < ended.len(), "no tuple was used twice: the traffic is too tame");
    Ok(())
}
