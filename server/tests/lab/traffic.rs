//! Random traffic over every route of the lab: its choices come from a seed.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use crate::conversation::{self, Carrier, Close, Conversation, DATAGRAM_MAX};
use crate::ctnetlink::FlowKey;
use crate::namespaces::{
    FORWARDED_PORT, LAN_V4, LAN_V6, Place, ROUTER_LAN, ROUTER_WAN, SERVICE_PORT, SERVING_V4, SERVING_V6,
    WAN_V4, WAN_V6,
};

/// How many conversations a place has at once.
const WORKERS: [(Place, u16); 3] = [(Place::Lan, 6), (Place::Wan, 4), (Place::Router, 2)];
/// Each worker has a port of its own from here on, to use again and again.
const FIRST_OWN_PORT: u16 = 20_000;
/// Between rounds. Beyond the kernel's time-out for UDP and ICMP, so that some go on as a new flow.
const PAUSE_MAX_MS: u64 = 1_500;

/// Who talks to whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    /// Where the initiator is.
    pub(crate) from: Place,
    /// The initiator's address.
    pub(crate) src: IpAddr,
    /// Whom it addresses: with a port forward not the one who answers.
    pub(crate) dst: SocketAddr,
    /// Whether the far end answers echo requests under this address as a host of its own.
    pub(crate) pings: bool,
}

/// The services that the traffic talks to.
pub(crate) struct Services;

impl Services {
    /// Starts all of them; they end with the process.
    pub(crate) fn start() -> anyhow::Result<()> {
        for address in WAN_V4.into_iter().chain(WAN_V6) {
            conversation::serve(Place::Wan, address)?;
        }
        for address in [SERVING_V4, SERVING_V6] {
            conversation::serve(Place::Lan, address)?;
        }
        for address in ROUTER_LAN {
            conversation::serve(Place::Router, address)?;
        }
        Ok(())
    }
}

/// Every route of the lab: out, in, in by port forward, within the lan by port forward, to the router, from
/// the router.
pub(crate) fn routes() -> Vec<Route> {
    let mut routes = Vec::new();
    let mut add = |from, sources: &[IpAddr], targets: &[IpAddr], port: u16| {
        for &src in sources {
            for &dst in targets.iter().filter(|dst| dst.is_ipv4() == src.is_ipv4()) {
                // A forwarded port is not the way of an echo request: that one is for the router.
                let pings = port == SERVICE_PORT;
                routes.push(Route { from, src, dst: SocketAddr::new(dst, port), pings });
            }
        }
    };
    add(Place::Lan, &LAN_V4, &WAN_V4, SERVICE_PORT);
    add(Place::Lan, &LAN_V6, &WAN_V6, SERVICE_PORT);
    add(Place::Lan, &LAN_V4, &ROUTER_WAN, FORWARDED_PORT);
    add(Place::Lan, &LAN_V4, &ROUTER_LAN, SERVICE_PORT);
    add(Place::Lan, &LAN_V6, &ROUTER_LAN, SERVICE_PORT);
    add(Place::Wan, &WAN_V4, &ROUTER_WAN[..1], FORWARDED_PORT);
    add(Place::Wan, &WAN_V6, &[SERVING_V6], SERVICE_PORT);
    add(Place::Router, &ROUTER_WAN, &WAN_V4, SERVICE_PORT);
    add(Place::Router, &ROUTER_WAN, &WAN_V6, SERVICE_PORT);
    routes
}

/// How much traffic.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Amount {
    /// So many conversations of each worker.
    Each(usize),
    /// Until `finish` is called.
    UntilFinished,
}

/// Traffic that is under way.
pub(crate) struct Traffic {
    workers: Vec<JoinHandle<anyhow::Result<Vec<FlowKey>>>>,
    finish: Arc<AtomicBool>,
}

impl Traffic {
    /// Starts workers in every place.
    pub(crate) fn start(seed: u64, amount: Amount) -> Self {
        let finish = Arc::new(AtomicBool::new(false));
        let mut workers = Vec::new();
        for (place, count) in WORKERS {
            for nth in 0..count {
                let index = workers.len() as u16;
                let finish = Arc::clone(&finish);
                workers.push(thread::spawn(move || {
                    place.enter();
                    // Distinct streams of choices, whatever the seed.
                    let rng = StdRng::seed_from_u64(seed ^ (u64::from(index) << 48));
                    Worker { place, rng, own_port: FIRST_OWN_PORT + index, nth, of: count, finish }
                        .work(amount)
                }));
            }
        }
        Self { workers, finish }
    }

    /// Waits for the amount to be reached, or ends what has no amount. Returns the flows of all conversations:
    /// one that went on after a time-out made several flows of one key.
    pub(crate) fn finish(self) -> anyhow::Result<Vec<FlowKey>> {
        self.finish.store(true, Ordering::Relaxed);
        let mut keys = Vec::new();
        for worker in self.workers {
            keys.extend(worker.join().map_err(|_| anyhow!("a worker panicked"))??);
        }
        Ok(keys)
    }
}

fn carriers(route: &Route) -> &'static [Carrier] {
    match route.pings {
        true => &[Carrier::Tcp, Carrier::Udp, Carrier::Icmp],
        false => &[Carrier::Tcp, Carrier::Udp],
    }
}

struct Worker {
    place: Place,
    rng: StdRng,
    own_port: u16,
    /// Which of the workers of its place it is, and how many there are.
    nth: u16,
    of: u16,
    finish: Arc<AtomicBool>,
}

impl Worker {
    fn work(mut self, amount: Amount) -> anyhow::Result<Vec<FlowKey>> {
        let routes: Vec<Route> = routes().into_iter().filter(|route| route.from == self.place).collect();
        // Each of these once, whatever chance brings afterwards.
        let mut certain = routes
            .iter()
            .flat_map(|route| carriers(route).iter().map(move |carrier| (*route, *carrier)))
            .skip(self.nth.into())
            .step_by(self.of.into());
        let mut keys = Vec::new();
        loop {
            let done = match amount {
                Amount::Each(count) => keys.len() >= count,
                Amount::UntilFinished => self.finish.load(Ordering::Relaxed),
            };
            if done {
                return Ok(keys);
            }
            let (route, carrier) = match certain.next() {
                Some(both) => both,
                None => self.choose(&routes)?,
            };
            keys.push(self.converse(route, carrier)?);
        }
    }

    fn choose(&mut self, routes: &[Route]) -> anyhow::Result<(Route, Carrier)> {
        let route = *routes.choose(&mut self.rng).context("a place without a route")?;
        // Half of it TCP.
        let tcp = self.rng.random_bool(0.3);
        let carrier = *carriers(&route).choose(&mut self.rng).context("no carrier")?;
        Ok((route, if tcp { Carrier::Tcp } else { carrier }))
    }

    /// One conversation with random choices.
    fn converse(&mut self, route: Route, carrier: Carrier) -> anyhow::Result<FlowKey> {
        let again = self.rng.random_bool(0.3);
        let port = if again { self.own_port } else { 0 };
        // A connection that ends in order blocks its ports for a minute; an aborted one does not.
        let reset = again || self.rng.random_bool(0.3);
        let what = || format!("{carrier:?} {route:?} from port {port}");
        let mut conversation = Conversation::open(carrier, SocketAddr::new(route.src, port), route.dst)
            .with_context(|| format!("cannot open {}", what()))?;
        for round in 0..self.rng.random_range(1..=4) {
            if round > 0 && self.rng.random_bool(0.5) {
                // Not to wait for anything: pauses are part of what is being played.
                thread::sleep(Duration::from_millis(self.rng.random_range(0..PAUSE_MAX_MS)));
            }
            let (up, down) = (self.size(carrier), self.size(carrier));
            conversation.round(up, down).with_context(|| format!("{up} up, {down} down, {}", what()))?;
        }
        let key = conversation.key();
        conversation.close(if reset { Close::Reset } else { Close::Fin })?;
        Ok(key)
    }

    /// Mostly small, at times large.
    fn size(&mut self, carrier: Carrier) -> u32 {
        let largest = if carrier == Carrier::Tcp { 1_000_000 } else { DATAGRAM_MAX };
        let limit = if self.rng.random_bool(0.1) { largest } else { 2_000 };
        self.rng.random_range(0..=limit)
    }
}

/// A TCP connection on each route that talks without end.
pub(crate) struct Steady {
    talkers: HashMap<FlowKey, JoinHandle<anyhow::Result<Conversation>>>,
    quiet: Arc<AtomicBool>,
}

impl Steady {
    /// Opens one on each route.
    pub(crate) fn start(seed: u64) -> anyhow::Result<Self> {
        let quiet = Arc::new(AtomicBool::new(false));
        let mut talkers = HashMap::new();
        for (index, route) in routes().into_iter().enumerate() {
            let mut conversation = route
                .from
                .within(|| Conversation::open(Carrier::Tcp, SocketAddr::new(route.src, 0), route.dst))?;
            let quiet = Arc::clone(&quiet);
            let mut rng = StdRng::seed_from_u64(!seed ^ ((index as u64) << 48));
            talkers.insert(
                conversation.key(),
                thread::spawn(move || {
                    while !quiet.load(Ordering::Relaxed) {
                        conversation.round(rng.random_range(0..5_000), rng.random_range(0..20_000))?;
                        thread::sleep(Duration::from_millis(rng.random_range(50..300)));
                    }
                    Ok(conversation)
                }),
            );
        }
        Ok(Self { talkers, quiet })
    }

    /// Falls silent; the connections stay open until they are dropped.
    pub(crate) fn quieten(self) -> anyhow::Result<HashMap<FlowKey, Conversation>> {
        self.quiet.store(true, Ordering::Relaxed);
        let quiet = self.talkers.into_iter().map(|(key, talker)| {
            let conversation = talker.join().map_err(|_| anyhow!("a talker panicked"))??;
            Ok((key, conversation))
        });
        quiet.collect()
    }
}
