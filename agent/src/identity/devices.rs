//! Who is who: leases, neighbours and the router's own addresses put together, and what of it changed since it
//! was last told.
//!
//! No I/O and no clock here: [`gather`] makes a picture of plain values, and [`Book`] compares pictures.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    net::IpAddr,
};

use netmon_proto::v1::{Event, HostIdentity, event::Kind};

use super::{
    leases::{Lease, Mac, is_host_name},
    neighbours::Neighbours,
};
use crate::{
    addresses::{HostAddresses, LanConfig, interface_towards, lan_interfaces},
    host::NEVER_SET_US,
};

/// More devices than this are left out.
pub const MOST_DEVICES: usize = 4096;
/// Of one device. A phone that makes itself a new IPv6 address each day has a handful at a time.
pub const MOST_ADDRESSES: usize = 64;

/// Who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// The router itself, on the interface of this index.
    Router(u32),
    /// A device of the LAN.
    Device(Mac),
    /// The holder of a lease that no neighbour table and no lease gives a hardware address for.
    Holder(IpAddr),
}

/// What is known about one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// None: not known.
    pub mac: Option<Mac>,
    /// Sorted.
    pub addresses: Vec<IpAddr>,
    /// A host name, or empty.
    pub name: String,
    /// When its last lease ends; zero: never, or it has none.
    pub until_us: i64,
    /// Empty: not known.
    pub interface: String,
    /// Zero: not known.
    pub heard_us: i64,
    leased: bool,
}

impl Identity {
    /// Whether there is no news in `later`. That a device was heard of is none by itself.
    fn is_as(&self, later: &Self) -> bool {
        let quiet = Self { heard_us: self.heard_us, ..later.clone() };
        *self == quiet
    }
}

/// One moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    /// Everyone.
    pub identities: BTreeMap<Key, Identity>,
    /// Devices beyond [`MOST_DEVICES`], and addresses beyond [`MOST_ADDRESSES`].
    pub left_out: u64,
    /// When the next lease ends, unless it is renewed.
    pub next_expiry_us: Option<i64>,
}

/// What a picture is made of.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// What the router is called.
    pub router_name: &'a str,
    /// Which side is the LAN.
    pub lan: &'a LanConfig,
    /// The router's interfaces and addresses.
    pub host: &'a HostAddresses,
    /// Who answers for which address.
    pub neighbours: &'a Neighbours,
    /// Of all files.
    pub leases: &'a [Lease],
}

/// Puts everything together as of `now_us`. Where a lease and a neighbour disagree about an address, whoever
/// answers for it holds it.
pub fn gather(sources: Sources<'_>, now_us: i64) -> Picture {
    let mut picture = Picture::default();
    let own: BTreeSet<IpAddr> = sources.host.addresses().map(|(_, address)| address.own).collect();
    picture.add_router(sources);
    let macs = picture.add_neighbours(sources, &own);
    for lease in sources.leases {
        if !own.contains(&lease.address) {
            picture.add_lease(lease, macs.get(&lease.address).copied(), sources.host, now_us);
        }
    }
    for identity in picture.identities.values_mut() {
        identity.addresses.sort_unstable();
    }
    picture
}

impl Picture {
    fn add_router(&mut self, sources: Sources<'_>) {
        for interface in sources.host.interfaces() {
            let of_it = sources.host.addresses().filter(|(of, _)| of.index == interface.index);
            let mut addresses: Vec<IpAddr> =
                of_it.map(|(_, address)| address.own).filter(|own| !own.is_loopback()).collect();
            addresses.sort_unstable();
            addresses.dedup();
            addresses.truncate(MOST_ADDRESSES);
            if addresses.is_empty() {
                continue;
            }
            let name = Some(sources.router_name).filter(|name| is_host_name(name)).unwrap_or_default();
            let identity = Identity {
                mac: interface.mac.filter(|mac| *mac != [0; 6]),
                addresses,
                name: name.to_owned(),
                interface: interface.name.clone(),
                ..Identity::default()
            };
            self.identities.insert(Key::Router(interface.index), identity);
        }
    }

    /// Gives who answers for which address.
    fn add_neighbours(&mut self, sources: Sources<'_>, own: &BTreeSet<IpAddr>) -> BTreeMap<IpAddr, Mac> {
        let lan = lan_interfaces(sources.lan, sources.host);
        let own_macs: BTreeSet<Mac> =
            sources.host.interfaces().iter().filter_map(|interface| interface.mac).collect();
        let mut macs = BTreeMap::new();
        for (index, address, neighbour) in sources.neighbours.iter() {
            if !lan.contains(&index) || own.contains(&address) || own_macs.contains(&neighbour.mac) {
                continue;
            }
            macs.insert(address, neighbour.mac);
            let interface = sources.host.interfaces().iter().find(|interface| interface.index == index);
            let interface = interface.map(|interface| interface.name.as_str()).unwrap_or_default();
            let (key, mac) = (Key::Device(neighbour.mac), Some(neighbour.mac));
            self.add(key, mac, interface, address, neighbour.heard_us);
        }
        macs
    }

    fn add_lease(&mut self, lease: &Lease, answers: Option<Mac>, host: &HostAddresses, now_us: i64) {
        // A clock that was never set does not tell what is over.
        if lease.until_us > 0 && now_us >= NEVER_SET_US {
            if lease.until_us <= now_us {
                return;
            }
            let next = self.next_expiry_us.map_or(lease.until_us, |next| next.min(lease.until_us));
            self.next_expiry_us = Some(next);
        }
        if let (Some(mac), Some(other)) = (lease.mac, answers)
            && mac != other
        {
            // Somebody else answers for the address. The name is still its client's, where that is known.
            if let Some(identity) = self.identities.get_mut(&Key::Device(mac)) {
                identity.learn(lease);
            }
            return;
        }
        let mac = lease.mac.or(answers);
        let key = mac.map_or(Key::Holder(lease.address), Key::Device);
        let interface = if lease.interface.is_empty() {
            interface_towards(host, lease.address).map(|found| found.name.as_str()).unwrap_or_default()
        } else {
            &lease.interface
        };
        if let Some(identity) = self.add(key, mac, interface, lease.address, lease.heard_us) {
            identity.learn(lease);
        }
    }

    /// None: there is no room.
    fn add(
        &mut self,
        key: Key,
        mac: Option<Mac>,
        interface: &str,
        address: IpAddr,
        heard_us: i64,
    ) -> Option<&mut Identity> {
        let room = self.identities.len() < MOST_DEVICES;
        let identity = match self.identities.entry(key) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) if room => {
                entry.insert(Identity { mac, interface: interface.to_owned(), ..Identity::default() })
            }
            Entry::Vacant(_) => {
                self.left_out += 1;
                return None;
            }
        };
        identity.heard_us = identity.heard_us.max(heard_us);
        if !identity.addresses.contains(&address) {
            if identity.addresses.len() < MOST_ADDRESSES {
                identity.addresses.push(address);
            } else {
                self.left_out += 1;
            }
        }
        Some(identity)
    }
}

impl Identity {
    /// The name of the lease that lasts longest; one for ever lasts longest.
    fn learn(&mut self, lease: &Lease) {
        self.heard_us = self.heard_us.max(lease.heard_us);
        let lasts = |until_us: i64| if until_us == 0 { i64::MAX } else { until_us };
        let longer = !self.leased || lasts(lease.until_us) > lasts(self.until_us);
        if !lease.name.is_empty() && (longer || self.name.is_empty()) {
            self.name.clone_from(&lease.name);
        }
        if longer {
            self.until_us = lease.until_us;
        }
        self.leased = true;
    }
}

/// What was told, and what is to be told.
#[derive(Debug, Default)]
pub struct Book {
    known: BTreeMap<Key, Identity>,
    due: BTreeSet<Key>,
}

impl Book {
    /// Takes in a picture: what differs from the last one is due.
    pub fn compare(&mut self, picture: Picture) {
        let Picture { mut identities, .. } = picture;
        for (key, identity) in &identities {
            if !self.known.get(key).is_some_and(|known| known.is_as(identity)) {
                self.due.insert(*key);
            }
        }
        for (key, known) in std::mem::take(&mut self.known) {
            // Who is gone holds nothing; that is told once.
            if let Entry::Vacant(entry) = identities.entry(key) {
                self.due.insert(key);
                let heard_us = known.heard_us;
                entry.insert(Identity { addresses: Vec::new(), until_us: 0, heard_us, ..known });
            }
        }
        self.known = identities;
    }

    /// Everything is to be told again.
    pub fn all_due(&mut self) {
        self.due.extend(self.known.keys());
    }

    /// True where something is to be told.
    pub fn is_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// How many devices there are, the router aside.
    pub fn devices(&self) -> usize {
        self.known
            .iter()
            .filter(|(key, identity)| !matches!(key, Key::Router(_)) && !identity.addresses.is_empty())
            .count()
    }

    /// What is to be told, `most` of it.
    pub fn take(&mut self, most: usize, now_us: i64) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < most
            && let Some(key) = self.due.pop_first()
        {
            let Some(identity) = self.known.get(&key) else { continue };
            let gone = identity.addresses.is_empty();
            // Without a hardware address and without any other there is nobody to speak of.
            if !gone || identity.mac.is_some() {
                events.push(event(key, identity, now_us));
            }
            if gone {
                self.known.remove(&key);
            }
        }
        events
    }
}

fn event(key: Key, identity: &Identity, now_us: i64) -> Event {
    let address = |address: &IpAddr| match address {
        IpAddr::V4(v4) => v4.octets().to_vec().into(),
        IpAddr::V6(v6) => v6.octets().to_vec().into(),
    };
    let told = HostIdentity {
        mac: identity.mac.map(|mac| mac.to_vec()).unwrap_or_default().into(),
        addresses: identity.addresses.iter().map(address).collect(),
        host_name: identity.name.clone(),
        lease_until_us: identity.until_us,
        interface: identity.interface.clone(),
        // A clock that was set back must not make it later than now.
        last_seen_us: identity.heard_us.clamp(0, now_us.max(0)),
        is_router: matches!(key, Key::Router(_)),
        ..HostIdentity::default()
    };
    Event { time_us: now_us, kind: Some(Kind::HostIdentity(told)) }
}

#[cfg(test)]
mod tests;
