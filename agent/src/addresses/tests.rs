use std::net::IpAddr;

use super::{AddressBook, HostAddresses, Interface, InterfaceAddress, LanConfig};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn address(interface: u32, own: &str, prefix_length: u8) -> InterfaceAddress {
    InterfaceAddress { interface, own: ip(own), network: ip(own), prefix_length, broadcast: None }
}

/// A home router: loopback, br-lan, wan with a default route, and a guest network.
fn router() -> HostAddresses {
    let interface =
        |index, name: &str| Interface { index, name: name.to_owned(), loopback: index == 1, mac: None };
    let mut wan = address(3, "203.0.113.7", 24);
    wan.broadcast = Some("203.0.113.255".parse().unwrap());
    HostAddresses::with(
        vec![interface(1, "lo"), interface(2, "br-lan"), interface(3, "wan"), interface(4, "guest")],
        vec![
            address(1, "127.0.0.1", 8),
            address(1, "192.0.2.1", 32),
            address(2, "192.168.1.1", 24),
            address(2, "2001:db8:1::1", 64),
            address(2, "fe80::1", 64),
            wan,
            address(3, "2001:db8:ffff::7", 64),
            address(4, "10.9.0.1", 16),
        ],
        vec![3],
    )
}

fn check(config: &LanConfig, flows: &[(&str, &str)]) -> String {
    let book = AddressBook::new(config, &router());
    let mut text = String::new();
    for (initiator, responder) in flows {
        let place = book.place(ip(initiator), ip(responder));
        text.push_str(&format!(
            "{initiator} > {responder}: {:?} device {:?} remote {:?}\n",
            place.direction, place.device, place.remote
        ));
    }
    text
}

const FLOWS: &[(&str, &str)] = &[
    ("192.168.1.20", "198.51.100.1"),
    ("198.51.100.1", "192.168.1.20"),
    ("192.168.1.20", "10.9.3.4"),
    ("192.168.1.20", "192.168.1.1"),
    ("203.0.113.7", "198.51.100.1"),
    ("198.51.100.1", "203.0.113.7"),
    ("127.0.0.1", "127.0.0.1"),
    ("192.168.1.20", "192.0.2.1"),
    ("192.168.1.20", "203.0.113.99"),
    ("198.51.100.1", "198.51.100.2"),
    ("2001:db8:1::20", "2001:db8:2::1"),
    ("2001:db8:2::1", "2001:db8:1::20"),
    ("fe80::20", "fe80::21"),
    ("fe80::20", "fe80::1"),
    ("192.168.1.20", "224.0.0.251"),
    ("192.168.1.20", "255.255.255.255"),
    ("0.0.0.0", "255.255.255.255"),
    ("fe80::20", "ff02::fb"),
    ("203.0.113.99", "203.0.113.255"),
    ("192.168.1.1", "239.255.255.250"),
];

#[test]
fn lan_is_what_has_no_default_route() {
    insta::assert_snapshot!(check(&LanConfig::default(), FLOWS), @r"
    192.168.1.20 > 198.51.100.1: Out device Initiator remote Responder
    198.51.100.1 > 192.168.1.20: In device Responder remote Initiator
    192.168.1.20 > 10.9.3.4: Lan device Initiator remote None
    192.168.1.20 > 192.168.1.1: Local device Initiator remote None
    203.0.113.7 > 198.51.100.1: Local device None remote Responder
    198.51.100.1 > 203.0.113.7: Local device None remote Initiator
    127.0.0.1 > 127.0.0.1: Local device None remote None
    192.168.1.20 > 192.0.2.1: Local device Initiator remote None
    192.168.1.20 > 203.0.113.99: Out device Initiator remote Responder
    198.51.100.1 > 198.51.100.2: Forward device None remote Responder
    2001:db8:1::20 > 2001:db8:2::1: Out device Initiator remote Responder
    2001:db8:2::1 > 2001:db8:1::20: In device Responder remote Initiator
    fe80::20 > fe80::21: Lan device Initiator remote None
    fe80::20 > fe80::1: Local device Initiator remote None
    192.168.1.20 > 224.0.0.251: Lan device Initiator remote None
    192.168.1.20 > 255.255.255.255: Lan device Initiator remote None
    0.0.0.0 > 255.255.255.255: Lan device None remote None
    fe80::20 > ff02::fb: Lan device Initiator remote None
    203.0.113.99 > 203.0.113.255: Forward device None remote Initiator
    192.168.1.1 > 239.255.255.250: Local device None remote None
    ");
}

#[test]
fn lan_interfaces_leave_out_the_guests() {
    let config = LanConfig {
        lan_interfaces: vec!["br-lan".into(), "wan".into()],
        wan_interfaces: vec!["wan".into()],
        ..LanConfig::default()
    };
    let flows =
        [("192.168.1.20", "10.9.3.4"), ("203.0.113.99", "192.168.1.20"), ("2001:db8:1::20", "10.9.3.4")];
    insta::assert_snapshot!(check(&config, &flows), @r"
    192.168.1.20 > 10.9.3.4: Out device Initiator remote Responder
    203.0.113.99 > 192.168.1.20: In device Responder remote Initiator
    2001:db8:1::20 > 10.9.3.4: Out device Initiator remote Responder
    ");
}

#[test]
fn lan_subnets_win_over_interfaces() {
    let config = LanConfig {
        lan_subnets: vec![(ip("172.16.0.9"), 12), (ip("2001:db8:7::"), 48)],
        ..LanConfig::default()
    };
    assert!(!config.needs_routes());
    let flows =
        [("172.31.255.255", "192.168.1.20"), ("172.32.0.0", "2001:db8:7:1::9"), ("10.9.3.4", "2001:db8:8::")];
    insta::assert_snapshot!(check(&config, &flows), @r"
    172.31.255.255 > 192.168.1.20: Out device Initiator remote Responder
    172.32.0.0 > 2001:db8:7:1::9: In device Responder remote Initiator
    10.9.3.4 > 2001:db8:8::: Forward device None remote Responder
    ");
}

#[test]
fn a_prefix_of_length_zero_holds_its_family_alone() {
    let config = LanConfig { lan_subnets: vec![(ip("0.0.0.0"), 0)], ..LanConfig::default() };
    let flows = [("198.51.100.1", "198.51.100.2"), ("2001:db8:2::1", "2001:db8:2::2")];
    insta::assert_snapshot!(check(&config, &flows), @r"
    198.51.100.1 > 198.51.100.2: Lan device Initiator remote None
    2001:db8:2::1 > 2001:db8:2::2: Forward device None remote Responder
    ");
}

#[test]
fn without_addresses_there_is_no_lan() {
    assert!(AddressBook::new(&LanConfig::default(), &HostAddresses::default()).knows_no_lan());
}
