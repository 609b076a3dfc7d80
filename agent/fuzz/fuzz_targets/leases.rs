//! Any bytes, read as a file of leases, twice: no panic, bounded, names that are host names or nothing; and
//! what is told of them says of no device what no lease said.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netmon_agent::{
    addresses::{HostAddresses, LanConfig},
    identity::{
        devices::{Book, MOST_ADDRESSES, MOST_DEVICES, Sources, gather},
        leases::{MOST_LEASES, carry_over, is_host_name, parse},
        neighbours::Neighbours,
    },
};
use netmon_proto::v1::event::Kind;

const NOW_US: i64 = 1_800_000_000_000_000;

fuzz_target!(|data: &[u8]| {
    let (before, now) = data.split_at(data.len() / 2);
    let (before, mut leases) = (parse(before), parse(now));
    carry_over(&before.list, &mut leases.list, NOW_US);
    assert!(leases.list.len() <= MOST_LEASES);
    for lease in &leases.list {
        assert!(lease.name.is_empty() || is_host_name(&lease.name));
        assert!(lease.until_us >= 0 && lease.interface.len() <= 15);
    }
    let mut book = Book::default();
    for leases in [&before, &leases] {
        let sources = Sources {
            router_name: "router",
            lan: &LanConfig::default(),
            host: &HostAddresses::default(),
            neighbours: &Neighbours::default(),
            leases: &leases.list,
        };
        let picture = gather(sources, NOW_US);
        assert!(picture.identities.len() <= MOST_DEVICES);
        book.compare(picture);
        let events = book.take(usize::MAX, NOW_US);
        assert!(!book.is_due());
        for event in events {
            let Some(Kind::HostIdentity(told)) = event.kind else { panic!("an identity") };
            assert!(matches!(told.mac.len(), 0 | 6) && told.addresses.len() <= MOST_ADDRESSES);
            assert!(!told.mac.is_empty() || !told.addresses.is_empty());
            assert!((0..=NOW_US).contains(&told.last_seen_us));
            for address in &told.addresses {
                assert!(leases.list.iter().any(|lease| match lease.address {
                    std::net::IpAddr::V4(v4) => v4.octets()[..] == address[..],
                    std::net::IpAddr::V6(v6) => v6.octets()[..] == address[..],
                }));
            }
        }
    }
});
