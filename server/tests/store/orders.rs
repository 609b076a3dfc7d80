//! The orders of DNS answers and of drops, and their filters.

use netmon_server::domain::{Changes, DnsResponse, FirewallDrop, Hook, Micros, Observed, RouterId};
use netmon_server::store::{
    Count, DatabaseUrl, DnsFilter, DnsRow, DnsSort, DropFilter, DropRow, DropSort, Page, PageOf, Position,
    Store, Writer,
};

use crate::events::{PHONE, dns_response, firewall_drop, identity};
use crate::opened;
use crate::sample::{NOON, ended, ip, tcp};

fn answer(client: &str, name: &str) -> DnsResponse {
    DnsResponse { client: ip(client), name: name.to_owned(), ..dns_response() }
}

fn dropped(src: &str, dst_port: u16, left_out: i64) -> FirewallDrop {
    FirewallDrop { dst_port, left_out, ..firewall_drop(src, "192.168.1.20") }
}

/// Each a second after the one before it.
fn observed<T>(router: RouterId, rows: Vec<T>) -> Vec<Observed<T>> {
    let times = (0..).map(|second: Micros| NOON + second * 1_000_000);
    times.zip(rows).map(|(time, what)| Observed { router, time, what }).collect()
}

fn tell(writer: &mut Writer, router: RouterId, answers: Vec<DnsResponse>, drops: Vec<FirewallDrop>) {
    let (dns, drops) = (observed(router, answers), observed(router, drops));
    writer.commit(&Changes { dns, drops, ..Changes::default() }).unwrap();
}

/// Ids of all rows, page by page; `between` is called after each of the pages.
fn ids<T>(
    limit: usize,
    id: impl Fn(&T) -> i64,
    read: impl Fn(Page) -> PageOf<T>,
    mut between: impl FnMut(),
) -> Vec<i64> {
    let mut before: Option<Position> = None;
    let mut ids = Vec::new();
    loop {
        let part = read(Page { before, limit });
        assert!(part.items.len() <= limit);
        ids.extend(part.items.iter().map(&id));
        if part.next.is_none() {
            return ids;
        }
        before = part.next;
        between();
    }
}

/// Ids of answers, page by page.
fn dns(store: &Store, filter: &DnsFilter, limit: usize, between: impl FnMut()) -> Vec<i64> {
    ids(limit, |row: &DnsRow| row.id, |page| store.reader().dns(filter, page).unwrap(), between)
}

/// Ids of drops, page by page.
fn drops(store: &Store, filter: &DropFilter, limit: usize, between: impl FnMut()) -> Vec<i64> {
    ids(limit, |row: &DropRow| row.id, |page| store.reader().drops(filter, page).unwrap(), between)
}

/// Ids as numbers from 1, in the order of arrival: those of Postgres begin with the day.
fn numbered(all: &[i64], ids: &[i64]) -> Vec<usize> {
    ids.iter().map(|id| all.len() - all.iter().position(|known| known == id).unwrap()).collect()
}

const NAMES: [(&str, &str); 6] = [
    ("192.168.1.20", "b.example"),
    ("192.168.1.3", "a.example"),
    ("2001:db8::1", "b.example"),
    ("192.168.1.20", "c.example"),
    ("192.168.1.3", "a.example"),
    ("192.168.1.20", "b.example"),
];

const DROPS: [(&str, u16, i64); 5] = [
    ("203.0.113.9", 22, 0),
    ("198.51.100.7", 80, 5),
    ("2001:db8::9", 22, 0),
    ("203.0.113.9", 443, 9),
    ("198.51.100.7", 22, 5),
];

fn names() -> Vec<DnsResponse> {
    NAMES.iter().map(|(client, name)| answer(client, name)).collect()
}

fn packets() -> Vec<FirewallDrop> {
    DROPS.iter().map(|(src, port, left_out)| dropped(src, *port, *left_out)).collect()
}

/// Each order, page by page, with what is equal in it in between. With a time that all are younger than, it is the same.
pub(crate) fn answers_are_sorted(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    tell(&mut writer, router, names(), Vec::new());
    let all = dns(&store, &DnsFilter::default(), 10, || ());
    for (sort, expected) in [
        (DnsSort::Newest, [6, 5, 4, 3, 2, 1]),
        (DnsSort::Oldest, [1, 2, 3, 4, 5, 6]),
        (DnsSort::Name, [5, 2, 6, 3, 1, 4]),
        (DnsSort::Client, [5, 2, 6, 4, 1, 3]),
    ] {
        for (limit, from) in [(1, None), (2, Some(NOON)), (4, None), (5, Some(NOON)), (6, None)] {
            let filter = DnsFilter { sort, from, ..DnsFilter::default() };
            let found = dns(&store, &filter, limit, || ());
            assert_eq!(numbered(&all, &found), expected, "{filter:?} by {limit}");
            let count = store.reader().count_dns(&filter, 10).unwrap();
            assert_eq!(count, Count { total: 6, capped: false }, "{filter:?}");
        }
    }
    let page = Page { before: None, limit: 1 };
    let filter = DnsFilter { sort: DnsSort::Name, ..DnsFilter::default() };
    assert_eq!(store.reader().dns(&filter, page).unwrap().items[0].answers.len(), 1);
}

pub(crate) fn drops_are_sorted(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    tell(&mut writer, router, Vec::new(), packets());
    let all = drops(&store, &DropFilter::default(), 10, || ());
    for (sort, expected) in [
        (DropSort::Newest, [5, 4, 3, 2, 1]),
        (DropSort::Oldest, [1, 2, 3, 4, 5]),
        (DropSort::Source, [5, 2, 4, 1, 3]),
        (DropSort::Port, [5, 3, 1, 2, 4]),
        (DropSort::LeftOut, [4, 5, 2, 3, 1]),
    ] {
        for (limit, from) in [(1, None), (2, Some(NOON)), (3, None), (4, Some(NOON)), (5, None)] {
            let filter = DropFilter { sort, from, ..DropFilter::default() };
            let found = drops(&store, &filter, limit, || ());
            assert_eq!(numbered(&all, &found), expected, "{filter:?} by {limit}");
            let count = store.reader().count_drops(&filter, 10).unwrap();
            assert_eq!(count, Count { total: 5, capped: false }, "{filter:?}");
        }
    }
}

/// Rows that come in while someone reads on, first and in the midst of every order, are in none that was begun, but
/// behind the newest where the oldest come first.
pub(crate) fn what_comes_in_moves_no_page(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    tell(&mut writer, router, names(), packets());
    for sort in [DnsSort::Newest, DnsSort::Oldest, DnsSort::Name, DnsSort::Client] {
        let filter = DnsFilter { sort, ..DnsFilter::default() };
        let before = dns(&store, &filter, 1_000, || ());
        let mut left = 4;
        let found = dns(&store, &filter, 2, || {
            if left > 0 {
                left -= 1;
                let coming = vec![answer("192.168.1.1", "a.a"), answer("192.168.1.20", "b.example")];
                tell(&mut writer, router, coming, Vec::new());
            }
        });
        let (begun, late) = found.split_at(before.len());
        assert_eq!(begun, before, "{sort:?}");
        let expected = if sort == DnsSort::Oldest { 2 * 4 } else { 0 };
        assert_eq!((late.len(), late.is_sorted()), (expected, true), "{sort:?}");
    }
    for sort in [DropSort::Newest, DropSort::Oldest, DropSort::Source, DropSort::Port, DropSort::LeftOut] {
        let filter = DropFilter { sort, ..DropFilter::default() };
        let before = drops(&store, &filter, 1_000, || ());
        let mut left = 3;
        let found = drops(&store, &filter, 2, || {
            if left > 0 {
                left -= 1;
                let coming = vec![dropped("192.0.2.1", 1, 99), dropped("203.0.113.9", 22, 5)];
                tell(&mut writer, router, Vec::new(), coming);
            }
        });
        let (begun, late) = found.split_at(before.len());
        assert_eq!(begun, before, "{sort:?}");
        let expected = if sort == DropSort::Oldest { 2 * 3 } else { 0 };
        assert_eq!((late.len(), late.is_sorted()), (expected, true), "{sort:?}");
    }
}

/// What an address asked for before its MAC was known, and after, stands in one list whichever way it is read.
pub(crate) fn a_device_of_two_keys_is_one_list(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    writer.commit(&ended(&[tcp(router, 1)])).unwrap();
    tell(&mut writer, router, names(), packets());
    writer.commit(&identity(router, Some(PHONE), &["192.168.1.20"])).unwrap();
    tell(&mut writer, router, names(), packets());
    let device = Some(ip("192.168.1.20"));
    let all = dns(&store, &DnsFilter::default(), 100, || ());
    for (sort, expected) in [
        (DnsSort::Newest, [12, 10, 7, 6, 4, 1]),
        (DnsSort::Oldest, [1, 4, 6, 7, 10, 12]),
        (DnsSort::Name, [12, 7, 6, 1, 10, 4]),
    ] {
        let filter = DnsFilter { device, sort, ..DnsFilter::default() };
        for limit in [1, 4] {
            let found = dns(&store, &filter, limit, || ());
            assert_eq!(numbered(&all, &found), expected, "{sort:?} by {limit}");
        }
    }
    let all = drops(&store, &DropFilter::default(), 100, || ());
    for (sort, expected) in [
        (DropSort::Oldest, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        (DropSort::LeftOut, [9, 4, 10, 7, 5, 2, 8, 6, 3, 1]),
    ] {
        let filter = DropFilter { device, sort, ..DropFilter::default() };
        let found = drops(&store, &filter, 3, || ());
        assert_eq!(numbered(&all, &found), expected, "{sort:?}");
    }
}

pub(crate) fn answers_and_drops_are_filtered(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    writer.commit(&ended(&[tcp(router, 1)])).unwrap();
    let mut packets = packets();
    packets[1].out_interface = "lan0".to_owned();
    packets.push(dropped("0.0.0.0", 67, 0));
    packets.push(FirewallDrop { hook: Hook::Output, ..firewall_drop("192.168.1.20", "203.0.113.9") });
    tell(&mut writer, router, names(), packets);

    let all = dns(&store, &DnsFilter::default(), 100, || ());
    let any = DnsFilter::default;
    for (filter, expected) in [
        (DnsFilter { device: Some(ip("192.168.1.20")), ..any() }, vec![6, 4, 1]),
        // No device: a router that asks for itself.
        (DnsFilter { device: Some(ip("192.168.1.3")), ..any() }, vec![5, 2]),
        (
            DnsFilter {
                device: Some(ip("192.168.1.3")),
                domain: Some("a.example".to_owned()),
                sort: DnsSort::Oldest,
                ..any()
            },
            vec![2, 5],
        ),
        (DnsFilter { device: Some(ip("192.168.1.4")), ..any() }, vec![]),
        (DnsFilter { domain: Some("b.example".to_owned()), sort: DnsSort::Client, ..any() }, vec![6, 1, 3]),
        (DnsFilter { domain: Some("d.example".to_owned()), sort: DnsSort::Client, ..any() }, vec![]),
        (DnsFilter { from: Some(NOON + 4_000_000), sort: DnsSort::Oldest, ..any() }, vec![5, 6]),
        (DnsFilter { to: Some(NOON + 1_000_000), sort: DnsSort::Oldest, ..any() }, vec![1, 2]),
        (
            DnsFilter {
                from: Some(NOON + 1_000_000),
                to: Some(NOON + 3_000_000),
                sort: DnsSort::Name,
                ..any()
            },
            vec![2, 3, 4],
        ),
    ] {
        let found = dns(&store, &filter, 1, || ());
        assert_eq!(numbered(&all, &found), expected, "{filter:?}");
        let count = store.reader().count_dns(&filter, 10).unwrap();
        assert_eq!(count.total, expected.len() as u64, "{filter:?}");
    }

    let all = drops(&store, &DropFilter::default(), 100, || ());
    let any = DropFilter::default;
    for (filter, expected) in [
        (DropFilter { source: Some(ip("203.0.113.9")), ..any() }, vec![4, 1]),
        (DropFilter { host: Some(ip("203.0.113.9")), ..any() }, vec![7, 4, 1]),
        (DropFilter { source: Some(ip("192.168.1.20")), ..any() }, vec![7]),
        (DropFilter { source: Some(ip("0.0.0.0")), ..any() }, vec![6]),
        (DropFilter { source: Some(ip("192.0.2.99")), ..any() }, vec![]),
        (
            DropFilter {
                device: Some(ip("192.168.1.20")),
                source: Some(ip("203.0.113.9")),
                sort: DropSort::Oldest,
                ..any()
            },
            vec![1, 4],
        ),
        (DropFilter { interface: Some("lan0".to_owned()), ..any() }, vec![2]),
        (DropFilter { interface: Some("wan0".to_owned()), port: Some(22), ..any() }, vec![5, 3, 1]),
        (DropFilter { interface: Some("wan".to_owned()), ..any() }, vec![]),
        (DropFilter { hook: Some(Hook::Output), sort: DropSort::Source, ..any() }, vec![7]),
        (DropFilter { from: Some(NOON + 5_000_000), sort: DropSort::Oldest, ..any() }, vec![6, 7]),
    ] {
        let found = drops(&store, &filter, 1, || ());
        assert_eq!(numbered(&all, &found), expected, "{filter:?}");
        let count = store.reader().count_drops(&filter, 10).unwrap();
        assert_eq!(count.total, expected.len() as u64, "{filter:?}");
    }
}
