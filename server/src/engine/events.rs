//! What is not a flow, on its way into the next changes.

use std::{
    collections::{HashSet, VecDeque},
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
};

use rustc_hash::FxHashSet;

use super::pending::Pending;
use crate::{
    domain::{DnsBucket, DnsResponse, Health, HealthMinute, Identity, MINUTE_US, Micros, Observed, RouterId},
    ingest::is_device_address,
};

/// What is wrong with a router's host. Heartbeats and samples of its health each tell a part.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    heartbeat: Vec<String>,
    health: Vec<String>,
}

impl Warnings {
    pub(super) fn of_heartbeat(&mut self, warnings: &[String]) -> String {
        self.heartbeat = warnings.to_vec();
        self.lines()
    }

    pub(super) fn of_health(&mut self, warnings: &[String]) -> String {
        self.health = warnings.to_vec();
        self.lines()
    }

    /// Each once.
    fn lines(&self) -> String {
        let mut lines: Vec<&str> = Vec::new();
        for line in self.heartbeat.iter().chain(&self.health) {
            if !lines.contains(&line.as_str()) {
                lines.push(line);
            }
        }
        lines.join("\n")
    }
}

/// How many answers are remembered, to know them again.
const TOLD: usize = 16_384;

/// The answers that were told last.
#[derive(Debug, Default)]
pub(super) struct Told {
    hasher: RandomState,
    known: FxHashSet<u64>,
    order: VecDeque<u64>,
}

impl Told {
    /// Whether an answer was not told before, as far as is remembered.
    pub(super) fn is_new(&mut self, time: Micros, response: &DnsResponse) -> bool {
        let hash =
            self.hasher.hash_one((time, response.client, &response.name, response.kind, response.rcode));
        if !self.known.insert(hash) {
            return false;
        }
        if self.order.len() == TOLD
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back(hash);
        true
    }
}

impl Pending {
    pub(super) fn dns_answered(
        &mut self,
        router: RouterId,
        time: Micros,
        response: DnsResponse,
        own: &HashSet<IpAddr>,
    ) {
        self.client_seen(router, response.client, time, own);
        self.dns.push(Observed { router, time, what: response });
    }

    pub(super) fn dns_counted(
        &mut self,
        router: RouterId,
        time: Micros,
        bucket: DnsBucket,
        own: &HashSet<IpAddr>,
    ) {
        self.client_seen(router, bucket.client, time, own);
        self.dns_buckets.push(Observed { router, time, what: bucket });
    }

    pub(super) fn identified(&mut self, router: RouterId, time: Micros, identity: Identity) {
        // The addresses of a MAC are given to its device by the store.
        if identity.mac.is_none() {
            for address in &identity.addresses {
                self.device_seen(router, *address, identity.last_seen);
            }
        }
        self.identities.push(Observed { router, time, what: identity });
    }

    /// Samples of one minute become one.
    pub(super) fn health_sampled(&mut self, router: RouterId, time: Micros, health: Health) {
        let minute = time.div_euclid(MINUTE_US);
        match self.health.entry((router, minute)) {
            std::collections::hash_map::Entry::Occupied(mut known) => known.get_mut().health.add(health),
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(HealthMinute { router, minute, health });
            }
        }
    }

    /// Whoever asks a router for names is a device, unless it is the router itself.
    fn client_seen(&mut self, router: RouterId, client: IpAddr, time: Micros, own: &HashSet<IpAddr>) {
        if is_device_address(client) && !own.contains(&client) {
            self.device_seen(router, client, time);
        }
    }
}
