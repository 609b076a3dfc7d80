//! What jobs in the background learn about remote hosts.

use std::net::IpAddr;

use netmon_server::domain::{Changes, HostName, HostTouch};
use netmon_server::store::{DatabaseUrl, Elsewhere, HostFilter, HostSort, Page};

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

pub(crate) fn a_text_is_looked_for_in_all_that_is_known(url: &DatabaseUrl) {
    let (store, mut writer, _) = opened(url);
    // More than are read at once.
    let many: Vec<String> = (0..2_500).map(|n| format!("198.51.{}.{}", 100 + n / 250, n % 250)).collect();
    writer.commit(&seen(&many.iter().map(String::as_str).collect::<Vec<_>>())).unwrap();
    let reader = store.reader();
    let row = |address: &str| {
        let filter = HostFilter { address: Some(ip(address)), ..HostFilter::default() };
        reader.hosts(&filter, Page { before: None, limit: 1 }).unwrap().items[0].id
    };
    let name = |address: &str, name: &str| HostName {
        host: row(address),
        name: Some(name.to_owned()),
        failed: false,
        asked: NOON,
        due: NOON,
    };
    writer
        .put_host_names(&[name("198.51.100.1", "Mail.example"), name("198.51.109.2", "mail2.example")])
        .unwrap();
    let known =
        Elsewhere::new(|address, text| address == ip("198.51.104.3") && "as64500 mailers".contains(text));
    for sort in [HostSort::Newest, HostSort::LastSeen] {
        let found = |text: &str, elsewhere: Option<&Elsewhere>| {
            let filter = HostFilter {
                text: Some(text.to_owned()),
                sort,
                elsewhere: elsewhere.cloned(),
                ..HostFilter::default()
            };
            let count = reader.count_hosts(&filter, 100).unwrap();
            let mut found = Vec::new();
            let mut page = Page { before: None, limit: 1 };
            loop {
                let part = reader.hosts(&filter, page).unwrap();
                found.extend(part.items.into_iter().map(|row| (row.address.to_string(), row.name)));
                page.before = part.next;
                if page.before.is_none() {
                    break;
                }
            }
            assert_eq!((count.total, count.capped), (found.len() as u64, false), "{text}");
            found.sort();
            found
        };
        let host = |address: &str, name: Option<&str>| (address.to_owned(), name.map(str::to_owned));
        let named = [host("198.51.100.1", Some("Mail.example")), host("198.51.109.2", Some("mail2.example"))];
        assert_eq!(found("mail", None), named);
        assert_eq!(found("mail2", None), named[1..]);
        assert_eq!(found("51.103.24", None).len(), 11, "24 and 240 to 249");
        let known = Some(&known);
        assert_eq!(
            found("mail", known),
            [&named[0], &host("198.51.104.3", None), &named[1]].map(Clone::clone)
        );
        assert_eq!(found("as64500", known), [host("198.51.104.3", None)]);
        assert_eq!(found("nowhere", known), []);
    }
}
