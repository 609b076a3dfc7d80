//! That every list is read along an index, or no further than a window, among a million rows.
//!
//! What the lists ask is recorded while they are read. On SQLite each statement is explained, and its conditions are
//! compared with what the index answers: a statement that has others must begin at a floor, or follow a key that has
//! no more rows than a window. Postgres explains what it did (`auto_explain`), with the rows that it looked at.

use std::cell::RefCell;
use std::collections::BTreeSet;

use diesel::connection::{Instrumentation, InstrumentationEvent, set_default_instrumentation};
use netmon_server::domain::{Direction, Hook, Micros};
use netmon_server::store::{
    DatabaseUrl, DeviceFilter, DeviceSort, DnsFilter, DnsSort, DomainFilter, DropFilter, DropSort,
    FlowFilter, FlowSort, FlowText, GapFilter, HostFilter, HostSort, Page, PageOf, Position, Reader, Store,
    StoreError, TopBy, TopFilter,
};

use crate::million::{self, Direct, MILLION};
use crate::postgres::Cluster;
use crate::sample::{NOON, ip};
use crate::{explain, explain_postgres};

const DAY: Micros = 86_400_000_000;

thread_local! {
    /// The statements of this thread, while somebody wants them.
    static RECORDED: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// From now on new connections tell what they run.
pub(crate) fn record_statements() {
    fn recorder() -> Option<Box<dyn Instrumentation>> {
        Some(Box::new(|event: InstrumentationEvent<'_>| {
            if let InstrumentationEvent::StartQuery { query, .. } = event {
                RECORDED.with_borrow_mut(|recorded| {
                    if let Some(recorded) = recorded {
                        recorded.push(query.to_string());
                    }
                });
            }
        }))
    }
    set_default_instrumentation(recorder).unwrap();
}

/// Something to ask the reader for.
type Request = Box<dyn Fn(&Reader) -> Result<(), StoreError>>;

/// A request and what it is called.
struct Case {
    name: String,
    run: Request,
}

impl Case {
    fn new(name: String, run: impl Fn(&Reader) -> Result<(), StoreError> + 'static) -> Self {
        Self { name, run: Box::new(run) }
    }

    /// What it asks of the database.
    fn statements(&self, reader: &Reader) -> Vec<String> {
        RECORDED.set(Some(Vec::new()));
        (self.run)(reader).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        RECORDED.take().unwrap()
    }
}

/// The first page, the page after it, one far down, and the count.
fn list<F: Clone + std::fmt::Debug + 'static, T: 'static>(
    cases: &mut Vec<Case>,
    middle: Position,
    filters: Vec<F>,
    page: fn(&Reader, &F, Page) -> Result<PageOf<T>, StoreError>,
    count: fn(&Reader, &F, u32) -> Result<netmon_server::store::Count, StoreError>,
) {
    for filter in filters {
        let name = format!("{filter:?}");
        cases.push(Case::new(name, move |reader| {
            let first = page(reader, &filter, Page { before: None, limit: 50 })?;
            if first.next.is_some() {
                page(reader, &filter, Page { before: first.next, limit: 50 })?;
            }
            page(reader, &filter, Page { before: Some(middle), limit: 50 })?;
            count(reader, &filter, 10_000)?;
            Ok(())
        }));
    }
}

/// Every filter alone and in all orders, and every two together of which the first chooses an index (the first
/// `keys` do).
fn all_of<F: Clone + 'static>(
    none: &F,
    keys: usize,
    parts: &[&dyn Fn(&mut F)],
    orders: &[&dyn Fn(&mut F)],
) -> Vec<F> {
    let with = |first: usize, second: usize| {
        let mut filter = none.clone();
        parts[first](&mut filter);
        parts[second](&mut filter);
        filter
    };
    let mut filters = vec![none.clone()];
    filters.extend((0..parts.len()).map(|part| with(part, part)));
    for order in orders {
        let alone = filters[..=parts.len()].to_vec();
        filters.extend(alone.into_iter().map(|mut filter| {
            order(&mut filter);
            filter
        }));
    }
    for first in 0..keys {
        filters.extend((first + 1..parts.len()).map(|second| with(first, second)));
    }
    filters
}

fn flow_filters(router: netmon_server::domain::RouterId) -> Vec<FlowFilter> {
    all_of(
        &FlowFilter::default(),
        4,
        &[
            &|f: &mut FlowFilter| f.device = Some(ip("192.168.1.1")),
            &|f| f.host = Some(ip("203.0.113.1")),
            &|f| f.domain = Some("name-1.example.org".to_owned()),
            &|f| f.port = Some(80),
            &move |f| f.router = Some(router),
            &|f| f.device = Some(ip("192.168.1.50")),
            &|f| f.host = Some(ip("203.0.113.2")),
            &|f| f.domain = Some("name-2.example.org".to_owned()),
            &|f| f.direction = Some(Direction::In),
            &|f| f.protocol = Some(17),
            &|f| f.port = Some(443),
            &|f| f.port = Some(1_030),
            &|f| f.ended = Some(true),
            &|f| f.ended = Some(false),
            &|f| f.from = Some(NOON - DAY),
            &|f| f.to = Some(NOON - 20 * DAY),
            &|f| f.text = Some(FlowText::Address(ip("192.168.1.1"))),
            &|f| f.text = Some(FlowText::Address(ip("203.0.113.1"))),
            &|f| f.text = Some(FlowText::Port(80)),
            &|f| f.text = Some(FlowText::Protocol(17)),
            &|f| f.text = Some(FlowText::Name("name-1".to_owned())),
            &|f| f.text = Some(FlowText::Name("host-14999".to_owned())),
            &|f| f.text = Some(FlowText::Name("example".to_owned())),
        ],
        &[&|f| f.sort = FlowSort::Bytes, &|f| f.sort = FlowSort::LastSeen, &|f| f.sort = FlowSort::Duration],
    )
}

/// All that the read side offers.
fn cases(reader: &Reader, middle: i64) -> Vec<Case> {
    let middle = Position::after_id(middle);
    let router = reader.router_id("gw").unwrap().unwrap();
    let mut cases = Vec::new();
    list(&mut cases, middle, flow_filters(router), Reader::flows, Reader::count_flows);
    let dns = all_of(
        &DnsFilter::default(),
        2,
        &[
            &|f: &mut DnsFilter| f.device = Some(ip("192.168.1.1")),
            &|f| f.domain = Some("name-1.example.org".to_owned()),
            &move |f| f.router = Some(router),
            &|f| f.text = Some("nowhere".to_owned()),
            &|f| f.kind = Some(28),
            &|f| f.rcode = Some(3),
            &|f| f.from = Some(NOON - DAY),
            &|f| f.to = Some(NOON - 20 * DAY),
            &|f| f.device = Some(ip("192.168.2.1")),
        ],
        &[&|f| f.sort = DnsSort::Oldest, &|f| f.sort = DnsSort::Name, &|f| f.sort = DnsSort::Client],
    );
    list(&mut cases, middle, dns, Reader::dns, Reader::count_dns);
    let drops = all_of(
        &DropFilter::default(),
        3,
        &[
            &|f: &mut DropFilter| f.device = Some(ip("192.168.1.1")),
            &|f| f.host = Some(ip("203.0.113.1")),
            &|f| f.source = Some(ip("203.0.113.1")),
            &|f| f.source = Some(ip("0.0.0.0")),
            &move |f| f.router = Some(router),
            &|f| f.hook = Some(Hook::Forward),
            &|f| f.interface = Some("lan0".to_owned()),
            &|f| f.protocol = Some(17),
            &|f| f.port = Some(23),
            &|f| f.text = Some("nothing".to_owned()),
            &|f| f.from = Some(NOON - DAY),
            &|f| f.to = Some(NOON - 20 * DAY),
        ],
        &[
            &|f| f.sort = DropSort::Oldest,
            &|f| f.sort = DropSort::Source,
            &|f| f.sort = DropSort::Port,
            &|f| f.sort = DropSort::LeftOut,
        ],
    );
    list(&mut cases, middle, drops, Reader::drops, Reader::count_drops);
    let devices = all_of(
        &DeviceFilter::default(),
        1,
        &[
            &move |f: &mut DeviceFilter| f.router = Some(router),
            &|f| f.address = Some(ip("192.168.1.1")),
            &|f| f.text = Some("168".to_owned()),
        ],
        &[&|f| f.sort = DeviceSort::LastSeen],
    );
    list(&mut cases, middle, devices, Reader::devices, Reader::count_devices);
    let hosts = all_of(
        &HostFilter::default(),
        1,
        &[&|f: &mut HostFilter| f.address = Some(ip("203.0.113.1")), &|f| {
            f.text = Some("nowhere".to_owned())
        }],
        &[&|f| f.sort = HostSort::LastSeen],
    );
    list(&mut cases, middle, hosts, Reader::hosts, Reader::count_hosts);
    let domains = all_of(
        &DomainFilter::default(),
        1,
        &[&|f: &mut DomainFilter| f.text = Some("nowhere".to_owned())],
        &[&|f| f.sort = HostSort::LastSeen],
    );
    list(&mut cases, middle, domains, Reader::domains, Reader::count_domains);
    let gaps = all_of(
        &GapFilter::default(),
        1,
        &[
            &move |f: &mut GapFilter| f.router = Some(router),
            &|f| f.cause = Some(1),
            &|f| f.from = Some(NOON - DAY),
            &|f| f.to = Some(NOON - 20 * DAY),
        ],
        &[],
    );
    list(&mut cases, middle, gaps, Reader::gaps, Reader::count_gaps);
    for by in [TopBy::Device, TopBy::Service, TopBy::Host] {
        for (router, span) in [(None, DAY / 24), (None, DAY), (None, 30 * DAY), (Some(router), DAY / 24)] {
            let filter = TopFilter { by, router, from: NOON - span, to: NOON, limit: 10 };
            cases.push(Case::new(format!("{filter:?}"), move |reader| reader.top(&filter).map(drop)));
        }
    }
    cases.push(Case::new("minutes of a device".to_owned(), |reader| {
        reader.device_minutes(1, NOON - DAY, NOON).map(drop)
    }));
    cases.push(Case::new("a device".to_owned(), |reader| reader.device(1).map(drop)));
    cases.push(Case::new("routers".to_owned(), |reader| reader.routers().map(drop)));
    cases.push(Case::new("oldest flow".to_owned(), |reader| reader.oldest_flow().map(drop)));
    cases
}

/// The indexes that lists are read along.
const INDEXES: [&str; 10] = [
    "flows_by_device",
    "flows_by_host",
    "flows_by_domain",
    "flows_by_port",
    "dns_queries_by_device",
    "dns_queries_by_domain",
    "firewall_drops_by_device",
    "firewall_drops_by_host",
    "remote_hosts_by_last_seen",
    "domains_by_last_seen",
];

pub(crate) fn every_list_follows_an_index_on_sqlite(url: &DatabaseUrl) {
    million::fill(url, MILLION, NOON);
    let store = Store::open(url).unwrap();
    let reader = store.reader();
    let mut explainer = explain::Explainer::new(Direct::open(url));
    let mut statements: BTreeSet<String> = BTreeSet::new();
    let mut wrong = Vec::new();
    for case in cases(&reader, million::middle(url, MILLION)) {
        let asked = case.statements(&reader);
        assert!(!asked.is_empty(), "{} asks nothing", case.name);
        for statement in asked {
            if let Err(reason) = explainer.check(&statement) {
                wrong.push(format!("{}\n  {reason}", case.name));
            }
            statements.insert(statement);
        }
    }
    assert!(wrong.is_empty(), "{} statements are not bounded:\n{}", wrong.len(), wrong.join("\n"));
    // A check that finds nothing when an index is gone would be none.
    for index in INDEXES {
        explainer.execute(&format!("BEGIN; DROP INDEX {index};"));
        let fails = statements.iter().any(|statement| explainer.check(statement).is_err());
        explainer.execute("ROLLBACK");
        assert!(fails, "nobody misses {index}");
    }
}

pub(crate) fn every_list_follows_an_index_on_postgres(cluster: Cluster) {
    let database = cluster.new_database();
    let url = DatabaseUrl::Postgres(cluster.url(&database));
    million::fill(&url, MILLION, NOON);
    let mut plans = explain_postgres::Plans::of(&cluster, &database);
    let store = Store::open(&url).unwrap();
    let reader = store.reader();
    let mut wrong = Vec::new();
    for case in cases(&reader, million::middle(&url, MILLION)) {
        (case.run)(&reader).unwrap();
        let asked = plans.new_ones();
        assert!(!asked.is_empty(), "{} was not explained", case.name);
        let reasons = asked.iter().filter_map(|plan| explain_postgres::check(plan).err());
        wrong.extend(reasons.map(|reason| format!("{}\n  {reason}", case.name)));
    }
    assert!(wrong.is_empty(), "{} statements are not bounded:\n{}", wrong.len(), wrong.join("\n"));
    let mut direct = Direct::open(&url);
    for index in INDEXES {
        direct.execute(&format!("DROP INDEX {index}"));
    }
    for start in [
        "FlowFilter { router: None, device: Some(192.168.1.50)",
        "FlowFilter { router: None, device: None, host: Some(203.0.113.2)",
        "HostFilter { address: None, text: None, sort: LastSeen",
        "DomainFilter { text: None, sort: LastSeen",
    ] {
        let case = cases(&reader, million::middle(&url, MILLION))
            .into_iter()
            .find(|case| case.name.starts_with(start))
            .unwrap();
        (case.run)(&reader).unwrap();
        let fails = plans.new_ones().iter().any(|plan| explain_postgres::check(plan).is_err());
        assert!(fails, "nobody misses the indexes of {}", case.name);
    }
}
