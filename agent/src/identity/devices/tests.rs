use super::*;
use crate::{
    addresses::{Interface, InterfaceAddress},
    identity::neighbours::MOST_NEIGHBOURS,
};

const NOW_US: i64 = 1_790_000_000_000_000;
const TV: Mac = [2, 0, 0, 0, 0, 1];
const PHONE: Mac = [2, 0, 0, 0, 0, 2];
const ROUTER: Mac = [2, 0, 0, 0, 0, 0xfe];

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A home router: br-lan, and a WAN with the default route.
fn host() -> HostAddresses {
    let interface =
        |index, name: &str, mac| Interface { index, name: name.into(), loopback: index == 1, mac };
    let address = |interface, own: &str, prefix_length| InterfaceAddress {
        interface,
        own: ip(own),
        network: ip(own),
        prefix_length,
        broadcast: None,
    };
    HostAddresses::with(
        vec![
            interface(1, "lo", Some([0; 6])),
            interface(2, "br-lan", Some(ROUTER)),
            interface(3, "wan", None),
        ],
        vec![
            address(1, "127.0.0.1", 8),
            address(2, "192.168.1.1", 24),
            address(2, "fe80::1", 64),
            address(3, "203.0.113.7", 24),
        ],
        vec![3],
    )
}

fn neighbours(list: &[(u32, &str, Mac)]) -> Neighbours {
    let list = list.iter().map(|(interface, address, mac)| (*interface, ip(address), *mac, NOW_US - 5));
    Neighbours::with(list)
}

fn lease(mac: Option<Mac>, address: &str, name: &str, until_us: i64) -> Lease {
    let (address, name) = (ip(address), name.to_owned());
    Lease { mac, address, name, until_us, interface: String::new(), heard_us: 0 }
}

fn picture_of(lan: &LanConfig, neighbours: &Neighbours, leases: &[Lease]) -> Picture {
    let host = host();
    gather(Sources { router_name: "gate", lan, host: &host, neighbours, leases }, NOW_US)
}

fn picture(neighbours: &Neighbours, leases: &[Lease]) -> Picture {
    picture_of(&LanConfig::default(), neighbours, leases)
}

fn lines(picture: &Picture) -> String {
    let line = |(key, identity): (&Key, &Identity)| {
        let Identity { addresses, name, until_us, interface, heard_us, .. } = identity;
        format!("{key:?}: {addresses:?} {name:?} on {interface:?} until {until_us} heard {heard_us}\n")
    };
    picture.identities.iter().map(line).collect()
}

#[test]
fn leases_neighbours_and_own_addresses_become_who_is_who() {
    let neighbours = neighbours(&[
        (2, "192.168.1.20", TV),
        (2, "fe80::20", TV),
        (2, "2001:db8::30", PHONE),
        (3, "203.0.113.1", [2, 0, 0, 0, 9, 9]),
        (2, "192.168.1.1", PHONE),
        (2, "192.168.1.99", ROUTER),
    ]);
    let leases = [
        lease(Some(TV), "192.168.1.20", "tv", NOW_US + 9),
        lease(None, "2001:db8::30", "phone", 0),
        lease(Some([2, 0, 0, 0, 0, 3]), "192.168.1.40", "asleep", NOW_US + 7),
        lease(Some(PHONE), "192.168.1.41", "over", NOW_US),
        lease(None, "192.168.1.42", "unknown", 0),
    ];
    let picture = picture(&neighbours, &leases);
    insta::assert_snapshot!(lines(&picture), @r#"
    Router(2): [192.168.1.1, fe80::1] "gate" on "br-lan" until 0 heard 0
    Router(3): [203.0.113.7] "gate" on "wan" until 0 heard 0
    Device([2, 0, 0, 0, 0, 1]): [192.168.1.20, fe80::20] "tv" on "br-lan" until 1790000000000009 heard 1789999999999995
    Device([2, 0, 0, 0, 0, 2]): [2001:db8::30] "phone" on "br-lan" until 0 heard 1789999999999995
    Device([2, 0, 0, 0, 0, 3]): [192.168.1.40] "asleep" on "br-lan" until 1790000000000007 heard 0
    Holder(192.168.1.42): [192.168.1.42] "unknown" on "br-lan" until 0 heard 0
    "#);
    assert_eq!(picture.next_expiry_us, Some(NOW_US + 7));
}

#[test]
fn whoever_answers_for_an_address_holds_it() {
    let neighbours = neighbours(&[(2, "192.168.1.20", PHONE), (2, "fe80::20", TV)]);
    let picture = picture(&neighbours, &[lease(Some(TV), "192.168.1.20", "tv", 0)]);
    let identity = |mac| picture.identities[&Key::Device(mac)].clone();
    assert_eq!((identity(TV).addresses, identity(TV).name), (vec![ip("fe80::20")], "tv".to_owned()));
    assert_eq!((identity(PHONE).addresses, identity(PHONE).name), (vec![ip("192.168.1.20")], String::new()));
}

#[test]
fn the_lease_that_lasts_longest_gives_the_name() {
    let name = |leases: &[Lease]| {
        let identity = picture(&Neighbours::default(), leases).identities.remove(&Key::Device(TV));
        identity.map(|identity| (identity.name, identity.until_us)).expect("a device")
    };
    let (old, new) = (
        lease(Some(TV), "192.168.1.20", "old", NOW_US + 5),
        lease(Some(TV), "192.168.1.21", "new", NOW_US + 6),
    );
    let (nameless, forever) =
        (lease(Some(TV), "192.168.1.22", "", NOW_US + 9), lease(Some(TV), "192.168.1.23", "fixed", 0));
    assert_eq!(name(&[old.clone(), new.clone()]), ("new".to_owned(), NOW_US + 6));
    assert_eq!(name(&[new.clone(), old.clone()]), ("new".to_owned(), NOW_US + 6));
    assert_eq!(name(&[old.clone(), nameless]), ("old".to_owned(), NOW_US + 9));
    assert_eq!(name(&[forever, new]), ("fixed".to_owned(), 0));
}

#[test]
fn the_lan_is_what_is_configured() {
    let neighbours = neighbours(&[(2, "192.168.1.20", TV), (3, "203.0.113.9", PHONE)]);
    let devices = |lan: LanConfig| {
        let picture = picture_of(&lan, &neighbours, &[]);
        picture.identities.into_keys().filter(|key| matches!(key, Key::Device(_))).collect::<Vec<_>>()
    };
    let subnets =
        |address, length| LanConfig { lan_subnets: vec![(ip(address), length)], ..LanConfig::default() };
    assert_eq!(devices(LanConfig::default()), [Key::Device(TV)]);
    assert_eq!(devices(subnets("203.0.113.0", 24)), [Key::Device(PHONE)]);
    assert_eq!(devices(subnets("198.51.100.0", 24)), []);
    let wan = || vec!["wan".to_owned()];
    assert_eq!(devices(LanConfig { lan_interfaces: wan(), ..LanConfig::default() }), [Key::Device(PHONE)]);
    let without = LanConfig { wan_interfaces: vec!["br-lan".to_owned()], ..LanConfig::default() };
    assert_eq!(devices(without), []);
}

/// What a hand-over tells: name, addresses.
fn told(book: &mut Book) -> Vec<(String, usize)> {
    let identity = |event: Event| match event.kind {
        Some(Kind::HostIdentity(identity)) => (identity.host_name, identity.addresses.len()),
        other => panic!("{other:?}"),
    };
    book.take(100, NOW_US).into_iter().map(identity).collect()
}

#[test]
fn changes_are_told_once_and_everything_on_request() {
    let mut book = Book::default();
    let both = neighbours(&[(2, "192.168.1.20", TV), (2, "fe80::20", TV)]);
    let leases = [lease(Some(TV), "192.168.1.20", "tv", 0)];
    book.compare(picture(&both, &leases));
    assert_eq!(told(&mut book), [("gate".to_owned(), 2), ("gate".to_owned(), 1), ("tv".to_owned(), 2)]);
    assert_eq!(book.devices(), 1);
    book.compare(picture(&both, &leases));
    assert_eq!(told(&mut book), []);

    // Heard of again: no news.
    let mut later = both.clone();
    later.heard(NOW_US);
    book.compare(picture(&later, &leases));
    assert_eq!(told(&mut book), []);

    book.compare(picture(&neighbours(&[(2, "192.168.1.20", TV)]), &leases));
    assert_eq!(told(&mut book), [("tv".to_owned(), 1)]);
    book.compare(picture(&Neighbours::default(), &[]));
    assert_eq!(told(&mut book), [("tv".to_owned(), 0)]);
    assert_eq!(book.devices(), 0);
    book.compare(picture(&Neighbours::default(), &[]));
    book.all_due();
    assert_eq!(told(&mut book), [("gate".to_owned(), 2), ("gate".to_owned(), 1)], "who is gone stays gone");
}

#[test]
fn a_flood_is_told_in_pieces() {
    let list: Vec<(u32, String, Mac)> = (0..300_u32)
        .map(|number| {
            let [.., a, b] = number.to_be_bytes();
            (2, format!("192.168.{}.{b}", 2 + a), [2, 0, 0, 1, a, b])
        })
        .collect();
    let list: Vec<(u32, &str, Mac)> =
        list.iter().map(|(index, text, mac)| (*index, text.as_str(), *mac)).collect();
    let mut book = Book::default();
    book.compare(picture(&neighbours(&list), &[]));
    assert_eq!((book.take(256, NOW_US).len(), book.is_due()), (256, true));
    assert_eq!((book.take(256, NOW_US).len(), book.is_due()), (46, false));
}

#[test]
fn the_tables_are_bounded() {
    let many: Vec<Lease> = (0..MOST_ADDRESSES as u32 + 3)
        .map(|number| lease(Some(TV), &std::net::Ipv4Addr::from(0x0a00_0000 + number).to_string(), "tv", 0))
        .collect();
    let picture_of_many = picture(&Neighbours::default(), &many);
    assert_eq!(picture_of_many.identities[&Key::Device(TV)].addresses.len(), MOST_ADDRESSES);
    assert_eq!(picture_of_many.left_out, 3);

    let everyone = (0..MOST_NEIGHBOURS as u32).map(|number| {
        let [a, b, c, d] = number.to_be_bytes();
        (2, IpAddr::from([10, b, c, d]), [2, 1, a, b, c, d], NOW_US)
    });
    let full = picture(&Neighbours::with(everyone), &[]);
    assert_eq!(full.identities.len(), MOST_DEVICES);
    assert_eq!(full.left_out, 2, "the router takes two places");
}

#[test]
fn a_clock_that_was_never_set_ends_no_lease() {
    let host = host();
    let lan = LanConfig::default();
    let leases = [lease(Some(TV), "192.168.1.20", "tv", NOW_US)];
    let sources = Sources {
        router_name: "not a host name",
        lan: &lan,
        host: &host,
        neighbours: &Neighbours::default(),
        leases: &leases,
    };
    assert!(gather(sources, 5_000_000).identities.contains_key(&Key::Device(TV)));
    let later = gather(sources, NOW_US);
    assert!(!later.identities.contains_key(&Key::Device(TV)));
    assert_eq!(later.identities[&Key::Router(2)].name, "");
}
