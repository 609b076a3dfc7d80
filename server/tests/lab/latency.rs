//! How long from a connection's first packet to the row in a browser.

use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::api;
use crate::conversation::{self, Carrier, Conversation};
use crate::lab::Lab;
use crate::namespaces::{LAN_V4, Place, WAN_V4};
use crate::outside::Site;

const TRIES: usize = 50;
/// Beyond this a row counts as missing. How fast it is, is printed, not tested: that is the machine's affair.
const LIMIT: Duration = Duration::from_secs(10);
/// What the project promises.
const GOAL: Duration = Duration::from_millis(1_500);

/// Issue: shown when, 4.
pub(crate) fn connect_to_event(site: &Site) -> anyhow::Result<()> {
    let mut rng = StdRng::seed_from_u64(site.seed);
    let lab = Lab::start(site)?;
    let events = api::subscribe()?;
    let mut delays = Vec::new();
    for _ in 0..TRIES {
        // Out of step with the server's ticks and the agent's dumps.
        thread::sleep(Duration::from_millis(rng.random_range(0..700)));
        // A port of its own tells the row from all others.
        let service = conversation::serve_tcp(Place::Wan, SocketAddr::new(WAN_V4[0], 0))?;
        let start = Instant::now();
        let held = Place::Lan.within(|| open(LAN_V4[0], service))?;
        let arrived = loop {
            let left = LIMIT.saturating_sub(start.elapsed());
            match events.recv_timeout(left) {
                Ok((at, row)) if is_row(&row, service) => break at,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => bail!("no row for {service} within {LIMIT:?}"),
                Err(RecvTimeoutError::Disconnected) => bail!("the server ended the stream of events"),
            }
        };
        delays.push(arrived.duration_since(start));
        drop(held);
    }
    delays.sort_unstable();
    let at = |percent: usize| delays.get((delays.len() * percent).div_ceil(100) - 1).copied();
    let p95 = at(95).context("no tries")?;
    println!(
        "connect() to server-sent event, {TRIES} tries: p50 {:?}, p95 {p95:?}, max {:?}; p95 <= {GOAL:?}: {}",
        at(50).context("no tries")?,
        at(100).context("no tries")?,
        if p95 <= GOAL { "yes" } else { "NO" },
    );
    ensure!(delays.len() == TRIES, "{} of {TRIES} tries", delays.len());
    drop(lab);
    Ok(())
}

fn open(from: IpAddr, to: SocketAddr) -> anyhow::Result<Conversation> {
    Ok(Conversation::open(Carrier::Tcp, SocketAddr::new(from, 0), to)?)
}

fn is_row(row: &api::LiveRow, service: SocketAddr) -> bool {
    row.destination == service.ip().to_string() && row.port == service.port().to_string()
}
