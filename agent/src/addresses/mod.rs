//! Whose address is it: the router's own, the LAN's, or somebody's outside; and hence a flow's direction.
//!
//! An [`AddressBook`] is built from the configuration and from [`HostAddresses`], which is what the kernel
//! says over rtnetlink. Both are plain values: this module opens no socket. When the kernel's addresses
//! change, a new book is made; a flow keeps the place it was given when it was first seen, because a new
//! WAN address does not change what an old connection was.
//!
//! What the LAN is, in this order: the configured subnets; else the prefixes of the addresses on the
//! configured LAN interfaces; else those on every interface that is neither loopback, nor a configured WAN
//! interface, nor the way of a default route. Link-local neighbours count as LAN whatever the interface,
//! because conntrack does not tell the interface.

mod host;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};

use netmon_proto::v1::{Direction, End};

pub use host::{HostAddresses, Interface, InterfaceAddress};

/// What the configuration says about the LAN. Empty lists mean "find out".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LanConfig {
    /// Interfaces whose subnets are the LAN.
    pub lan_interfaces: Vec<String>,
    /// Interfaces that never are.
    pub wan_interfaces: Vec<String>,
    /// The LAN itself, as address and prefix length.
    pub lan_subnets: Vec<(IpAddr, u8)>,
}

impl LanConfig {
    /// True where the LAN depends on which interfaces carry a default route.
    pub fn needs_routes(&self) -> bool {
        self.lan_subnets.is_empty() && self.lan_interfaces.is_empty()
    }
}

/// Direction and ends of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Seen from the router.
    pub direction: Direction,
    /// Which end is a device of the LAN.
    pub device: End,
    /// Which end is outside.
    pub remote: End,
}

/// What an address is to the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Own,
    Lan,
    /// Multicast, broadcast or unspecified: of the link, but nobody's in particular.
    Link,
    Outside,
}

/// A subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Prefix {
    v6: bool,
    bits: u128,
    mask: u128,
}

impl Prefix {
    fn new(address: IpAddr, length: u8) -> Self {
        let (v6, bits, width) = match address {
            IpAddr::V4(v4) => (false, u128::from(v4.to_bits()) << 96, 32),
            IpAddr::V6(v6) => (true, v6.to_bits(), 128),
        };
        let length = u32::from(length).min(width);
        let mask = if length == 0 { 0 } else { u128::MAX << (128 - length) };
        Prefix { v6, bits: bits & mask, mask }
    }

    fn holds(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => !self.v6 && (u128::from(v4.to_bits()) << 96) & self.mask == self.bits,
            IpAddr::V6(v6) => self.v6 && v6.to_bits() & self.mask == self.bits,
        }
    }
}

/// Answers what an address is. Lists are walked from end to end: a router has few prefixes and addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressBook {
    own: Vec<IpAddr>,
    lan: Vec<Prefix>,
    broadcast: Vec<Ipv4Addr>,
}

impl AddressBook {
    /// From what is configured and what the kernel says.
    pub fn new(config: &LanConfig, host: &HostAddresses) -> Self {
        let mut own: Vec<IpAddr> = host.addresses().map(|(_, address)| address.own).collect();
        own.sort_unstable();
        own.dedup();
        let broadcast = host.addresses().filter_map(|(_, address)| address.broadcast).collect();

        let lan = if config.lan_subnets.is_empty() {
            host.addresses()
                .filter(|(interface, _)| is_lan(config, host, interface))
                .map(|(_, address)| Prefix::new(address.network, address.prefix_length))
                .collect()
        } else {
            config.lan_subnets.iter().map(|(address, length)| Prefix::new(*address, *length)).collect()
        };
        AddressBook { own, lan, broadcast }
    }

    /// True where no subnet counts as LAN, so that every device looks like a stranger.
    pub fn knows_no_lan(&self) -> bool {
        self.lan.is_empty()
    }

    /// Direction and ends of the flow between `initiator`, the original source, and `responder`, the
    /// source of the reply tuple.
    pub fn place(&self, initiator: IpAddr, responder: IpAddr) -> Place {
        let ends = (self.side(initiator), self.side(responder));
        let direction = match ends {
            (Side::Own, _) | (_, Side::Own) => Direction::Local,
            (Side::Lan | Side::Link, Side::Lan | Side::Link) => Direction::Lan,
            (Side::Lan, Side::Outside) => Direction::Out,
            (Side::Outside, Side::Lan) => Direction::In,
            (Side::Outside, _) | (_, Side::Outside) => Direction::Forward,
        };
        let device = match ends {
            (Side::Lan, _) => End::Initiator,
            (_, Side::Lan) => End::Responder,
            _ => End::None,
        };
        let remote = match ends {
            (_, Side::Outside) => End::Responder,
            (Side::Outside, _) => End::Initiator,
            _ => End::None,
        };
        Place { direction, device, remote }
    }

    fn side(&self, address: IpAddr) -> Side {
        if address.is_loopback() || self.own.contains(&address) {
            return Side::Own;
        }
        let (broadcast, link_local) = match address {
            IpAddr::V4(v4) => (v4.is_broadcast() || self.broadcast.contains(&v4), v4.is_link_local()),
            IpAddr::V6(v6) => (false, v6.is_unicast_link_local()),
        };
        if broadcast || address.is_multicast() || address.is_unspecified() {
            Side::Link
        } else if link_local || self.lan.iter().any(|prefix| prefix.holds(address)) {
            Side::Lan
        } else {
            Side::Outside
        }
    }
}

/// The interfaces that the LAN's devices are behind, by their indices. Where only subnets are configured these
/// are the ones that have an address in them.
pub fn lan_interfaces(config: &LanConfig, host: &HostAddresses) -> Vec<u32> {
    let subnets: Vec<Prefix> =
        config.lan_subnets.iter().map(|(address, length)| Prefix::new(*address, *length)).collect();
    let by_subnets = !subnets.is_empty() && config.lan_interfaces.is_empty();
    let in_subnets = |interface: &Interface| {
        !interface.loopback
            && host.addresses().any(|(of, address)| {
                of.index == interface.index && subnets.iter().any(|prefix| prefix.holds(address.own))
            })
    };
    let is_lan = |interface: &&Interface| {
        if by_subnets { in_subnets(interface) } else { is_lan(config, host, interface) }
    };
    host.interfaces().iter().filter(is_lan).map(|interface| interface.index).collect()
}

/// The interface whose subnet holds `address`, the narrowest of several.
pub fn interface_towards(host: &HostAddresses, address: IpAddr) -> Option<&Interface> {
    let fits = |found: &InterfaceAddress| Prefix::new(found.network, found.prefix_length).holds(address);
    let nearest =
        host.addresses().filter(|(_, found)| fits(found)).max_by_key(|(_, found)| found.prefix_length);
    nearest.map(|(interface, _)| interface)
}

fn is_lan(config: &LanConfig, host: &HostAddresses, interface: &Interface) -> bool {
    if interface.loopback || config.wan_interfaces.contains(&interface.name) {
        return false;
    }
    if config.lan_interfaces.is_empty() {
        !host.has_default_route(interface.index)
    } else {
        config.lan_interfaces.contains(&interface.name)
    }
}
