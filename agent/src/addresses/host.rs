//! The host's interfaces, addresses and default routes, gathered from rtnetlink messages.

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::{DecodeError, ParseableParametrized};
use netlink_packet_route::{
    RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{LinkAttribute, LinkFlags, LinkMessage},
    route::{RouteAttribute, RouteMessage, RouteType},
};

/// An interface as far as the LAN is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's index.
    pub index: u32,
    /// For instance `br-lan`.
    pub name: String,
    /// IFF_LOOPBACK.
    pub loopback: bool,
    /// Its hardware address, if it is one of Ethernet's.
    pub mac: Option<[u8; 6]>,
}

/// One address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The kernel's index of the interface.
    pub interface: u32,
    /// The router's own address.
    pub own: IpAddr,
    /// An address of the subnet: the peer's on a point-to-point link, else the own one.
    pub network: IpAddr,
    /// Of the subnet.
    pub prefix_length: u8,
    /// The subnet's broadcast address, if it has one.
    pub broadcast: Option<Ipv4Addr>,
}

/// Everything that the kernel says about the host's addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostAddresses {
    interfaces: Vec<Interface>,
    addresses: Vec<InterfaceAddress>,
    default_routes: Vec<u32>,
}

impl HostAddresses {
    /// Takes in one message of an rtnetlink dump. Messages of other kinds change nothing.
    ///
    /// # Errors
    /// When the message is not what its type promises.
    pub fn take(&mut self, message_type: u16, payload: &[u8]) -> Result<(), DecodeError> {
        match RouteNetlinkMessage::parse_with_param(payload, message_type)? {
            RouteNetlinkMessage::NewLink(link) => self.take_link(link),
            RouteNetlinkMessage::NewAddress(address) => self.take_address(&address),
            RouteNetlinkMessage::NewRoute(route) => self.take_route(&route),
            _ => {}
        }
        Ok(())
    }

    /// Every interface.
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// Every address with its interface. One whose interface is not known has none of the properties that
    /// would make it the LAN's, so it comes with a nameless loopback.
    pub fn addresses(&self) -> impl Iterator<Item = (&Interface, &InterfaceAddress)> {
        const UNKNOWN: &Interface = &Interface { index: 0, name: String::new(), loopback: true, mac: None };
        self.addresses.iter().map(|address| {
            let interface = self.interfaces.iter().find(|interface| interface.index == address.interface);
            (interface.unwrap_or(UNKNOWN), address)
        })
    }

    /// True where a default route, IPv4 or IPv6, of any routing table leaves through this interface.
    pub fn has_default_route(&self, interface: u32) -> bool {
        self.default_routes.contains(&interface)
    }

    fn take_link(&mut self, link: LinkMessage) {
        let (mut name, mut mac) = (String::new(), None);
        for attribute in link.attributes {
            match attribute {
                LinkAttribute::IfName(text) => name = text,
                LinkAttribute::Address(bytes) => mac = bytes.try_into().ok(),
                _ => {}
            }
        }
        self.interfaces.push(Interface {
            index: link.header.index,
            name,
            loopback: link.header.flags.contains(LinkFlags::Loopback),
            mac,
        });
    }

    fn take_address(&mut self, message: &AddressMessage) {
        let (mut address, mut local, mut broadcast) = (None, None, None);
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Address(ip) => address = Some(*ip),
                AddressAttribute::Local(ip) => local = Some(*ip),
                AddressAttribute::Broadcast(ip) => broadcast = Some(*ip),
                _ => {}
            }
        }
        // IFA_LOCAL is the own address where both are given; IFA_ADDRESS is then the peer's.
        let (Some(own), Some(network)) = (local.or(address), address.or(local)) else { return };
        self.addresses.push(InterfaceAddress {
            interface: message.header.index,
            own,
            network,
            prefix_length: message.header.prefix_len,
            broadcast,
        });
    }

    fn take_route(&mut self, route: &RouteMessage) {
        if route.header.destination_prefix_length != 0 || route.header.kind != RouteType::Unicast {
            return;
        }
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::Oif(index) => self.default_routes.push(*index),
                RouteAttribute::MultiPath(hops) => {
                    self.default_routes.extend(hops.iter().map(|hop| hop.interface_index));
                }
                _ => {}
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn with(
        interfaces: Vec<Interface>,
        addresses: Vec<InterfaceAddress>,
        default_routes: Vec<u32>,
    ) -> Self {
        HostAddresses { interfaces, addresses, default_routes }
    }
}
