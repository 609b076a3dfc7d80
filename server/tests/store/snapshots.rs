//! Snapshots without an agent, beside one.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use netmon_server::clock::Clock;
use netmon_server::domain::{End, Micros};
use netmon_server::snapshot::{Compared, Snapshots, listing};
use netmon_server::store::{DatabaseUrl, FlowRow, Store};

use crate::retention::{DAY, totals};
use crate::sample::{NOON, cursor, ended, open, tcp};
use crate::{all_flows, opened};

const SECOND: Micros = 1_000_000;

/// A clock that is set by hand.
struct Hands(AtomicI64);

impl Clock for Hands {
    fn now(&self) -> Micros {
        self.0.load(Ordering::Relaxed)
    }
}

struct House {
    clock: Arc<Hands>,
    runtime: tokio::runtime::Runtime,
}

impl House {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { clock: Arc::new(Hands(AtomicI64::new(NOON))), runtime }
    }

    fn start(&self, store: &Store, router: &str) -> anyhow::Result<Snapshots> {
        Snapshots::start(store, router, self.clock.clone())
    }

    /// Ten seconds later.
    fn take(&self, snapshots: &mut Snapshots, text: &str) -> anyhow::Result<Compared> {
        self.clock.0.fetch_add(10 * SECOND, Ordering::Relaxed);
        self.runtime.block_on(snapshots.take(listing::read(text.as_bytes())))
    }

    /// By a program of its own, as `ingest-once` does.
    fn once(&self, store: &Store, text: &str) -> anyhow::Result<Compared> {
        let mut snapshots = self.start(store, "snapshot")?;
        let compared = self.take(&mut snapshots, text);
        snapshots.finish()?;
        compared
    }
}

/// A connection of the device .7 from this port, whose counters follow from the bytes.
fn line(port: u16, bytes: u64) -> String {
    format!(
        "ipv4     2 tcp      6 300 ESTABLISHED src=192.168.1.7 dst=203.0.113.5 sport={port} dport=443 packets={p} bytes={bytes} \
         src=203.0.113.5 dst=198.51.100.1 sport=443 dport={port} packets={p} bytes={r} [ASSURED] mark=0 use=1\n",
        p = bytes / 100,
        r = bytes * 10,
    )
}

fn compared(there: usize, began: usize, changed: usize, ended: usize) -> Compared {
    Compared { there, began, changed, ended }
}

fn by_port(rows: &[FlowRow], port: u16) -> Vec<(i64, i64, Option<End>)> {
    let of_port =
        rows.iter().filter(|row| row.flow.key.tuple.src_port == port && row.router_name == "snapshot");
    of_port.map(|row| (row.flow.counters.bytes_orig, row.flow.before.bytes_orig, row.flow.end)).collect()
}

/// Pings between two hosts are one flow, whichever of them goes on.
pub(crate) fn pings_add_up(url: &DatabaseUrl) {
    let (house, store) = (House::new(), Store::open(url).unwrap());
    let ping = |id: u16, bytes: u64| {
        format!(
            "ipv4     2 icmp     1 29 src=192.168.1.7 dst=203.0.113.5 type=8 code=0 id={id} packets=1 bytes={bytes} \
             src=203.0.113.5 dst=198.51.100.1 type=0 code=0 id={id} packets=1 bytes={bytes} mark=0 use=1\n"
        )
    };
    let mut snapshots = house.start(&store, "snapshot").unwrap();
    house.take(&mut snapshots, &line(1, 1_000)).unwrap();
    for (pings, moved) in [
        (ping(1, 1_000) + &ping(2, 1_000), 2_000),
        // One is over, the other goes on.
        (ping(2, 1_500), 2_500),
        // One goes as another of its size comes.
        (ping(3, 1_500), 4_000),
        // The same number once more.
        (ping(3, 100), 4_100),
    ] {
        house.take(&mut snapshots, &(line(1, 1_000) + &pings)).unwrap();
        let rows = all_flows(&store);
        let icmp: Vec<_> = rows.iter().filter(|row| row.flow.key.protocol == 1).collect();
        assert_eq!(icmp.iter().map(|row| row.flow.counters.bytes_orig).collect::<Vec<_>>(), [moved]);
    }
    house.take(&mut snapshots, &line(1, 1_000)).unwrap();
    snapshots.finish().unwrap();
    let totals = totals(&store);
    assert!(totals.agree(), "{totals:?}");
}

pub(crate) fn flows_begin_move_on_and_end(url: &DatabaseUrl) {
    let (house, store) = (House::new(), Store::open(url).unwrap());
    let first = line(1, 1_000) + &line(2, 2_000);
    assert_eq!(house.once(&store, &first).unwrap(), compared(2, 2, 0, 0));
    // What was there at first had moved before anyone looked: it is in no minute.
    assert_eq!(totals(&store).flows.counters.bytes_orig, 0);
    assert_eq!(by_port(&all_flows(&store), 1), [(1_000, 1_000, None)]);
    // The same again, by another program: nothing changes.
    let before = all_flows(&store);
    assert_eq!(house.once(&store, &first).unwrap(), compared(2, 0, 0, 0));
    assert_eq!(all_flows(&store), before);

    // One moved on, one is gone, one is new: all of its bytes were moved since.
    let mut snapshots = house.start(&store, "snapshot").unwrap();
    assert_eq!(house.take(&mut snapshots, &(line(1, 1_500) + &line(3, 700))).unwrap(), compared(2, 1, 1, 1));
    // A tuple in use again: its counters went down.
    assert_eq!(house.take(&mut snapshots, &(line(1, 100) + &line(3, 700))).unwrap(), compared(2, 1, 0, 1));
    // A line that is not understood, and a flow that is not in it: nothing ends.
    assert_eq!(house.take(&mut snapshots, &(line(1, 100) + "?\n")).unwrap(), compared(1, 0, 0, 0));
    assert_eq!(house.take(&mut snapshots, &(line(1, 100) + &line(3, 900))).unwrap(), compared(2, 0, 1, 0));
    snapshots.finish().unwrap();

    let rows = all_flows(&store);
    assert_eq!(by_port(&rows, 1), [(100, 0, None), (1_500, 1_000, Some(End::Unseen))]);
    assert_eq!(by_port(&rows, 2), [(2_000, 2_000, Some(End::Unseen))]);
    assert_eq!(by_port(&rows, 3), [(900, 0, None)]);
    let totals = totals(&store);
    assert_eq!((totals.flows.flows, totals.flows.counters.bytes_orig), (4, 100 + 500 + 900));
    assert!(totals.agree());
    let device = rows[0].flow.device.unwrap();
    assert_eq!(device.to_string(), "192.168.1.7");
    // The table is empty: all have ended.
    assert_eq!(house.once(&store, "").unwrap(), compared(0, 0, 0, 2));
    assert!(all_flows(&store).iter().all(|row| row.flow.end == Some(End::Unseen)));
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
}

pub(crate) fn an_agents_flows_are_left_alone(url: &DatabaseUrl) {
    // An agent tells of "gw": one flow has ended, one is open, both of the tuple that is in the snapshot, too.
    let (store, mut writer, router) = opened(url);
    assert_eq!(writer.reserve_flow_ids(10).unwrap(), 1);
    let mut agents = ended(&[tcp(router, 1)]);
    agents.open = vec![open(&tcp(router, 2))];
    agents.open[0].flow_id = 0xa_0000_0001;
    agents.cursors = vec![cursor(router, 7, None, 1)];
    writer.commit(&agents).unwrap();
    let of_agent = |rows: Vec<FlowRow>| -> Vec<FlowRow> {
        rows.into_iter().filter(|row| row.router_name == "gw").collect()
    };
    let before = of_agent(all_flows(&store));
    assert_eq!(before.len(), 2);

    let house = House::new();
    let Err(error) = house.start(&store, "gw") else { panic!("the agent's router was taken") };
    assert!(error.to_string().contains("\"gw\" is told of by an agent"), "{error}");
    let same_tuple = "tcp 6 5 ESTABLISHED src=192.168.1.20 dst=203.0.113.5 sport=50123 dport=443 packets=1 bytes=60 \
                      src=203.0.113.5 dst=198.51.100.1 sport=8443 dport=61000 packets=1 bytes=60 mark=0 use=1\n";
    house.once(&store, same_tuple).unwrap();
    house.once(&store, "").unwrap();
    assert_eq!(of_agent(all_flows(&store)), before);
    assert_eq!(all_flows(&store).len(), 3);

    // An agent that begins to tell of the snapshots' router ends them, not the other way round.
    let mut snapshots = house.start(&store, "snapshot").unwrap();
    house.take(&mut snapshots, &line(9, 100)).unwrap();
    let taken = store.reader().routers().unwrap().iter().find(|row| row.name == "snapshot").unwrap().id;
    writer
        .commit(&netmon_server::domain::Changes {
            cursors: vec![cursor(taken, 8, None, 1)],
            ..Default::default()
        })
        .unwrap();
    let rows = all_flows(&store);
    assert!(house.take(&mut snapshots, "").unwrap_err().to_string().contains("told of by an agent"));
    assert_eq!(all_flows(&store), rows);
    snapshots.finish().unwrap();
    for wrong in ["", "a b", "<b>"] {
        assert!(house.start(&store, wrong).is_err());
    }
}

/// Told on Postgres: what begins on a day stands in its part, though a server has ids of the day before left.
pub(crate) fn a_server_takes_new_ids_on_a_new_day(url: &DatabaseUrl) {
    let (house, store) = (House::new(), Store::open(url).unwrap());
    let mut snapshots = house.start(&store, "snapshot").unwrap();
    house.take(&mut snapshots, "").unwrap();
    let mut text = String::new();
    for day in 0..3 {
        text += &line(10 + day, 100);
        house.take(&mut snapshots, &text).unwrap();
        house.clock.0.fetch_add(DAY, Ordering::Relaxed);
    }
    snapshots.finish().unwrap();
    let rows = all_flows(&store);
    let days: Vec<i64> = rows.iter().map(|row| row.flow.id.0 >> 32).collect();
    let today = NOON / DAY;
    assert_eq!(days, [today + 2, today + 1, today]);
    // Their ids within the day are the same; the flows are not.
    assert_eq!(totals(&store).flows.flows, 3);
}
