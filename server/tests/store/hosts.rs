//! What jobs in the background learn about remote hosts.

use std::net::IpAddr;

use netmon_server::domain::{Changes, HostName, HostTouch};
use netmon_server::store::DatabaseUrl;

use crate::opened;
use crate::sample::{NOON, ip};

fn seen(addresses: &[&str]) -> Changes {
    let touch = |address: &&str| HostTouch { address: ip(address), first_seen: NOON, last_seen: NOON };
    Changes { hosts: addresses.iter().map(touch).collect(), ..Changes::default() }
}

pub(crate) fn names_are_asked_for_in_turn(url: &DatabaseUrl) {
    let (store, mut writer, _) = opened(url);
    writer.commit(&seen(&["198.51.100.1", "198.51.100.2"])).unwrap();
    writer.commit(&seen(&["198.51.100.3"])).unwrap();
    let reader = store.reader();
    let due = |now| -> Vec<(i64, IpAddr)> { reader.hosts_to_name(now, 2).unwrap() };
    let first = due(NOON);
    assert_eq!(
        first.iter().map(|(_, address)| *address).collect::<Vec<_>>(),
        [ip("198.51.100.1"), ip("198.51.100.2")]
    );
    let ids: Vec<i64> = first.iter().map(|(id, _)| *id).collect();
    let answer = |host, name: Option<&str>, failed, due| HostName {
        host,
        name: name.map(str::to_owned),
        failed,
        asked: NOON,
        due,
    };
    writer
        .put_host_names(&[
            answer(ids[0], Some("one.example"), false, NOON + 100),
            answer(ids[1], None, false, NOON + 50),
        ])
        .unwrap();
    let rest = due(NOON);
    assert_eq!(rest.len(), 1, "only the third was never asked for: {rest:?}");
    writer.put_host_names(&[answer(rest[0].0, None, true, NOON + 10)]).unwrap();
    assert_eq!(due(NOON), []);
    let order: Vec<i64> = due(NOON + 60).iter().map(|(id, _)| *id).collect();
    assert_eq!(order, [rest[0].0, ids[1]], "the longest overdue first");

    writer.put_host_names(&[answer(ids[0], None, true, NOON + 900)]).unwrap();
    let names = reader.host_names(&ids).unwrap();
    assert_eq!(names.get(&ids[0]).map(String::as_str), Some("one.example"), "a failure takes no name away");
    writer.put_host_names(&[answer(ids[0], None, false, NOON + 900)]).unwrap();
    assert!(reader.host_names(&ids).unwrap().is_empty(), "a clear answer does");
    writer.put_host_names(&[]).unwrap();
}

pub(crate) fn whois_is_kept(url: &DatabaseUrl) {
    let (store, mut writer, _) = opened(url);
    writer.commit(&seen(&["198.51.100.1"])).unwrap();
    let reader = store.reader();
    assert_eq!(reader.whois(ip("198.51.100.1")).unwrap(), None);
    assert!(writer.put_whois(ip("198.51.100.1"), "first\0", NOON).unwrap());
    assert!(writer.put_whois(ip("198.51.100.1"), "second", NOON + 1).unwrap());
    assert_eq!(reader.whois(ip("198.51.100.1")).unwrap(), Some(("second".to_owned(), NOON + 1)));
    assert!(!writer.put_whois(ip("198.51.100.9"), "nobody", NOON).unwrap(), "never seen");
}
