//! Random histories, told to the engine and the store, with restarts between any two commits: the flows, every row of
//! their rollups and what was sent must be the same, to the byte.

mod ledger;
mod posts;
mod server;
mod streams;

use std::cell::Cell;
use std::fmt::Debug;

use netmon_server::domain::{MINUTE_US, Micros};
use netmon_server::store::{DatabaseUrl, Store};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use ledger::Ledger;
use server::Server;

pub(crate) use posts::posts_are_counted_to_the_byte;
pub(crate) use streams::streams_are_counted_to_the_byte;

use crate::sample::NOON;

/// Most steps of one history.
const STEPS: usize = 80;

/// What a history says at its end: what it sent, when it stopped.
struct Told {
    ledger: Ledger,
    stopped: Micros,
}

/// Runs histories one after the other in one database, each with a router and a time of its own.
fn tell_histories<S: Debug + Clone>(
    url: &DatabaseUrl,
    cases: u32,
    step: impl Strategy<Value = S>,
    tell: impl Fn(&mut Server<'_>, &[S], Micros) -> Told,
) {
    let store = Store::open(url).unwrap();
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(cases);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let (number, begins) = (Cell::new(0), Cell::new(NOON));
    let told = TestRunner::new(config).run(&vec(step, 1..STEPS), |steps| {
        number.set(number.get() + 1);
        let before = store.reader().totals().unwrap();
        let mut server = Server::begin(&store, format!("history-{}", number.get()), begins.get());
        let Told { ledger, stopped } = tell(&mut server, &steps, begins.get());
        begins.set((stopped.div_euclid(MINUTE_US) + 1) * MINUTE_US);
        let after = store.reader().totals().unwrap();
        ledger::added(&before, &after, ledger.sums());
        ledger.check(url, &mut server, stopped);
        Ok(())
    });
    if let Err(error) = told {
        panic!("{error}");
    }
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
}
