//! What a commit has to find out or to write about devices, hosts, domains and labels.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use super::devices::DeviceKey;
use super::intern::{Interned, Seen};
use crate::domain::{Changes, FlowRecord, MINUTE_US, Micros};

/// Each key once, with when it was seen.
#[derive(Default)]
pub(super) struct Wanted<'a> {
    pub(super) devices: HashMap<DeviceKey, Seen>,
    pub(super) hosts: HashMap<IpAddr, Seen>,
    pub(super) domains: HashMap<&'a str, Seen>,
    pub(super) labels: HashSet<&'a str>,
}

impl<'a> Wanted<'a> {
    pub(super) fn of(interned: &Interned, changes: &'a Changes) -> Self {
        let mut wanted = Self::default();
        for touch in &changes.devices {
            let seen = Seen { first: touch.first_seen, last: touch.last_seen };
            wanted.device(interned, (touch.router, touch.address), seen, true);
        }
        for touch in &changes.hosts {
            let seen = Seen { first: touch.first_seen, last: touch.last_seen };
            wanted.host(interned, touch.address, seen, true);
        }
        for answer in &changes.dns {
            wanted.domain(interned, &answer.what.name, answer.time, true);
            for record in &answer.what.answers {
                wanted.domain(interned, &record.name, answer.time, true);
            }
        }
        // What is mentioned without being touched (a flow ended because it was not heard of any more) must have
        // an id as well, but says nothing new about when it was seen.
        for flow in changes.finished.iter().chain(&changes.open) {
            wanted.flow(interned, flow);
        }
        for delta in &changes.minutes {
            if let Some(address) = delta.device {
                let at = delta.minute.saturating_mul(MINUTE_US);
                wanted.device(interned, (delta.router, address), Seen { first: at, last: at }, false);
            }
        }
        for delta in &changes.host_minutes {
            if let Some(address) = delta.remote {
                let at = delta.minute.saturating_mul(MINUTE_US);
                wanted.host(interned, address, Seen { first: at, last: at }, false);
            }
        }
        for flow in &changes.named {
            if let Some(domain) = flow.name.domain.as_deref() {
                wanted.domain(interned, domain, flow.last_seen, false);
            }
        }
        for drop in &changes.drops {
            for text in [&drop.what.prefix, &drop.what.in_interface, &drop.what.out_interface] {
                wanted.label(interned, text);
            }
        }
        for minute in &changes.health {
            for interface in &minute.health.interfaces {
                wanted.label(interned, &interface.name);
            }
        }
        wanted
    }

    fn flow(&mut self, interned: &Interned, flow: &'a FlowRecord) {
        let seen = Seen { first: flow.first_seen, last: flow.last_seen };
        if let Some(address) = flow.device {
            self.device(interned, (flow.router, address), seen, false);
        }
        if let Some(address) = flow.remote {
            self.host(interned, address, seen, false);
        }
        if let Some(domain) = flow.name.as_ref().and_then(|name| name.domain.as_deref()) {
            self.domain(interned, domain, flow.first_seen, false);
        }
    }

    fn device(&mut self, interned: &Interned, key: DeviceKey, seen: Seen, touched: bool) {
        match interned.devices.by_address.get(&key) {
            Some(stored) if !(touched && stored.needs_write(seen)) => {}
            _ if touched => self.devices.entry(key).or_insert(seen).merge(seen),
            _ => {
                self.devices.entry(key).or_insert(seen);
            }
        }
    }

    pub(super) fn host(&mut self, interned: &Interned, address: IpAddr, seen: Seen, touched: bool) {
        match interned.hosts.get(&address) {
            Some(stored) if !(touched && stored.needs_write(seen)) => {}
            _ if touched => self.hosts.entry(address).or_insert(seen).merge(seen),
            _ => {
                self.hosts.entry(address).or_insert(seen);
            }
        }
    }

    fn domain(&mut self, interned: &Interned, name: &'a str, at: Micros, touched: bool) {
        let seen = Seen { first: at, last: at };
        match interned.domains.get(name) {
            Some(stored) if !(touched && stored.needs_write(seen)) => {}
            _ if touched => self.domains.entry(name).or_insert(seen).merge(seen),
            _ => {
                self.domains.entry(name).or_insert(seen);
            }
        }
    }

    fn label(&mut self, interned: &Interned, text: &'a str) {
        if interned.label(text).is_none() {
            self.labels.insert(text);
        }
    }
}
