//! The server's side of a history: engine and store as the writer uses them, without its thread and its clock.

use netmon_server::domain::{Micros, RouterId, WRITES};
use netmon_server::engine::{Applied, CheckedBatch, Engine, Known};
use netmon_server::store::{AttachedRouter, Store, Writer};

const DAY_US: Micros = 24 * 3_600_000_000;
const ID_BLOCK: i64 = 1_000;

pub(super) struct Server<'a> {
    pub(super) store: &'a Store,
    pub(super) writer: Writer,
    pub(super) engine: Engine,
    pub(super) router: RouterId,
    pub(super) name: String,
    ids_day: Micros,
}

impl<'a> Server<'a> {
    pub(super) fn begin(store: &'a Store, name: String, now: Micros) -> Self {
        let (writer, engine) = (store.writer().unwrap(), Engine::default());
        let mut server = Self { store, writer, engine, router: RouterId(0), name, ids_day: 0 };
        server.restart(now);
        server
    }

    /// Killed and begun anew from the database: what is not committed is gone.
    pub(super) fn restart(&mut self, now: Micros) {
        (self.writer, self.engine, self.ids_day) = (self.store.writer().unwrap(), Engine::default(), 0);
        let AttachedRouter { id, writes, open, ended, holders, answers } =
            self.writer.attach_router(&self.name, now).unwrap();
        self.router = id;
        self.engine.attach(id, &self.name, Known { open, ended, holders, answers });
        if self.writer.is_shared() {
            self.engine.load_cursor(id, WRITES, writes.is_some(), writes.unwrap_or(0));
        }
    }

    pub(super) fn apply(&mut self, batch: CheckedBatch, now: Micros) -> Applied {
        let day = now.div_euclid(DAY_US);
        let needed = i64::try_from(batch.events.len()).unwrap();
        if self.engine.ids_left() < needed || (day != self.ids_day && self.writer.ids_tell_the_day()) {
            self.writer.begin_day(now).unwrap();
            self.ids_day = day;
            let first = self.writer.reserve_flow_ids(ID_BLOCK).unwrap();
            self.engine.give_ids(first, ID_BLOCK);
        }
        self.engine.apply(batch, now)
    }

    /// Commits what was applied. The sums agree after every commit, whatever is under way.
    pub(super) fn commit(&mut self) {
        let changes = self.engine.take_changes();
        if !changes.is_empty() {
            self.writer.commit(&changes).unwrap();
        }
        let totals = self.store.reader().totals().unwrap();
        assert!(totals.agree(), "{totals:?}");
    }
}
