//! For how long rows are kept, and taking away the others in small steps.
//!
//! A sweep goes from table to table. Each step is one small transaction, so that commits come between them; its size
//! follows the time that the one before took. What is taken from flows and rollups stays in `removed_sums`, so that
//! [`Totals`](super::Totals) are over everything that was ever counted.

use std::time::Instant;

use serde::Deserialize;

use super::rollup_table::{HOSTS, ROLLUPS, SERVICES};
use super::{StoreError, Writer, days, fold, ids, rollup, space, sweep};
use crate::domain::{MINUTE_US, Micros};

const DAY_US: Micros = 24 * 60 * MINUTE_US;

/// So many minutes after it is over a minute is added to its hour and its day: most of what comes late is there by then.
const LATE_MINUTES: i64 = 1;

/// A step that takes longer makes the next one smaller.
const STEP_MS: u128 = 8;

/// Rows of the first step, of the smallest and of the largest. On a machine that has no time for us every step seems slow;
/// the smallest still comes to an end with a month of rows.
const ROWS_FIRST: i64 = 250;
const ROWS_MIN: i64 = 200;
const ROWS_MAX: i64 = 4_000;

/// How many rows an hour or a day keeps of what moved most, per router, once it is over.
const TOP_OF_HOUR: i64 = 100;
const TOP_OF_DAY: i64 = 500;

/// For how many days rows are kept; zero: for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Flows, from their end.
    pub flows_days: u32,
    /// Minutes of devices and services, and of a router's own state.
    pub minutes_days: u32,
    /// Minutes of remote hosts, of which there are many more.
    pub host_minutes_days: u32,
    /// Hours of the rollups.
    pub hours_days: u32,
    /// Days of the rollups.
    pub days_days: u32,
    /// DNS questions and answers.
    pub dns_days: u32,
    /// Packets that a firewall dropped.
    pub drops_days: u32,
    /// Events without a table of their own.
    pub raw_days: u32,
    /// Gaps, hits and incidents.
    pub incidents_days: u32,
    /// The database does not grow beyond this: the oldest flows, DNS answers, drops and raw events go first, however
    /// young they are. Zero: it may.
    #[serde(skip)]
    pub max_size_bytes: u64,
}

impl Retention {
    /// The fields that a configuration may have.
    pub const KEYS: &[&str] = &[
        "flows_days",
        "minutes_days",
        "host_minutes_days",
        "hours_days",
        "days_days",
        "dns_days",
        "drops_days",
        "raw_days",
        "incidents_days",
    ];
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            flows_days: 30,
            minutes_days: 14,
            host_minutes_days: 2,
            hours_days: 400,
            days_days: 0,
            dns_days: 30,
            drops_days: 90,
            raw_days: 3,
            incidents_days: 400,
            max_size_bytes: 0,
        }
    }
}

/// Rows with an id and a time, in the order in which they came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timed {
    pub(super) table: &'static str,
    /// The time that decides, and the one before which no younger row follows: columns, or sums of them.
    pub(super) ended: &'static str,
    pub(super) began: &'static str,
    /// Whether its rows are in the totals.
    pub(super) counted: bool,
    /// A table of its parts, and the column that names the row they belong to.
    pub(super) parts: Option<(&'static str, &'static str)>,
    /// The name of its ids in `id_blocks`, if they come from there: then Postgres keeps it in one part a day.
    pub(super) ids: &'static str,
}

pub(super) const FLOWS: Timed = Timed {
    began: "first_seen_us",
    counted: true,
    ids: ids::FLOW,
    ..timed("flows", "first_seen_us + lasted_us")
};

const fn timed(table: &'static str, time: &'static str) -> Timed {
    Timed { table, ended: time, began: time, counted: false, parts: None, ids: "" }
}

impl Timed {
    /// Whether Postgres keeps it in one part a day.
    pub(super) fn is_daily(&self) -> bool {
        !self.ids.is_empty()
    }

    /// The table, and that of its parts.
    pub(super) fn tables(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.table).chain(self.parts.map(|(table, _)| table))
    }
}

const RAW: Timed = Timed { ids: ids::RAW_EVENT, ..timed("raw_events", "time_us") };
const GAPS: Timed = timed("gaps", "to_us");
const HITS: Timed = timed("anomaly_hits", "time_us");
const INCIDENTS: Timed = Timed { began: "first_seen_us", ..timed("incidents", "last_seen_us") };

const DROPS: Timed = Timed { ids: ids::FIREWALL_DROP, ..timed("firewall_drops", "time_us") };
const DNS_QUERIES: Timed = Timed {
    parts: Some(("dns_answers", "query_id")),
    ids: ids::DNS_QUERY,
    ..timed("dns_queries", "time_us")
};
const DNS_BUCKETS: Timed = timed("dns_buckets", "bucket_start_us");

/// DNS questions, with their answers.
const DNS: [Timed; 2] = [DNS_QUERIES, DNS_BUCKETS];

/// The largest tables: what the size cap takes from.
pub(super) const BIG: [Timed; 4] = [FLOWS, DNS_QUERIES, DROPS, RAW];

/// A router's own state, by minute.
const STATES: [&str; 2] = ["router_minutes", "interface_minutes"];

/// One table's part of a sweep.
#[derive(Clone, Copy, Debug)]
enum Task {
    /// Room for this day and the next.
    Begin(Micros),
    /// Whole days before this time.
    Days(Timed, Micros),
    /// Rows whose time is before this one.
    Timed(Timed, Micros),
    /// Minutes before this one into their hours and days.
    RollUp(i64),
    /// Buckets of the rollup at this place before this one.
    Buckets(usize, i64),
    /// Minutes of a table before this one that are in no sum.
    Minutes(&'static str, i64),
    /// All but the first so many of each bucket before this one.
    Fold(usize, i64, i64),
    /// Down to so many bytes.
    Size(u64),
    /// Empty pages back to the file system.
    Space(u64),
}

/// One pass over all tables.
#[derive(Debug)]
pub struct Sweep {
    tasks: std::vec::IntoIter<Task>,
    task: Option<Task>,
    /// How far the present task is, by id or time.
    at: i64,
    rows: i64,
    swept: Swept,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is more to do.
    More,
    /// The sweep is over.
    Done(Swept),
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Rows that it took away.
    pub removed: u64,
    /// By how many bytes the database is larger than it may be, although nothing is left that may go for it.
    pub beyond: u64,
}

impl Swept {
    /// What [`Self::beyond`] means, and what to do.
    pub const BEYOND: &str = "the database is larger than max_size and nothing is left that may go now: sums, hosts and names \
                              stay, on Postgres the present day and imported rows too; expected a larger max_size";
}

/// What became of the present task.
pub(super) enum Went {
    /// There is more of it; so many rows are gone, and the next step begins after this id or time.
    On {
        removed: u64,
        at: i64,
    },
    Through,
    /// There is no more of it to take, and so many bytes too many.
    Beyond(u64),
}

impl Timed {
    /// Taking away what ended before this time: whole days first, then row by row what is in no day.
    fn tasks(self, before: Micros) -> impl Iterator<Item = Task> {
        let days = self.is_daily().then_some(Task::Days(self, before));
        days.into_iter().chain([Task::Timed(self, before)])
    }
}

/// What is kept for so many days goes if it is from before this time; `None`: it is kept for ever.
fn before(now: Micros, days: u32) -> Option<Micros> {
    (days > 0).then(|| now.saturating_sub(i64::from(days).saturating_mul(DAY_US)))
}

impl Retention {
    /// A pass over all tables, at this time.
    #[must_use]
    pub fn sweep(&self, now: Micros) -> Sweep {
        let before = |days: u32| before(now, days);
        // Minutes into hours and days first, for none goes before.
        let mut tasks = vec![Task::Begin(now), Task::RollUp(now.div_euclid(MINUTE_US) - LATE_MINUTES)];
        for (table, days) in [
            (FLOWS, self.flows_days),
            (DNS_QUERIES, self.dns_days),
            (DNS_BUCKETS, self.dns_days),
            (DROPS, self.drops_days),
            (RAW, self.raw_days),
            (GAPS, self.incidents_days),
            (HITS, self.incidents_days),
            (INCIDENTS, self.incidents_days),
        ] {
            tasks.extend(before(days).into_iter().flat_map(|before| table.tasks(before)));
        }
        for table in STATES {
            let minute = before(self.minutes_days).map(|before| before.div_euclid(MINUTE_US));
            tasks.extend(minute.map(|minute| Task::Minutes(table, minute)));
        }
        for (place, rollup) in ROLLUPS.iter().enumerate() {
            let days = match (rollup.time, place) {
                ("minute", HOSTS) => self.host_minutes_days,
                ("minute", _) => self.minutes_days,
                ("hour", _) => self.hours_days,
                _ => self.days_days,
            };
            let bucket_us = rollup.minutes * MINUTE_US;
            tasks.extend(before(days).map(|before| Task::Buckets(place, before.div_euclid(bucket_us))));
        }
        // Late events still find most of their rows in the two hours or days before.
        for (first, top, unit) in [(1, TOP_OF_HOUR, 60 * MINUTE_US), (2, TOP_OF_DAY, DAY_US)] {
            for kind in [SERVICES, HOSTS] {
                tasks.push(Task::Fold(kind + first, now.div_euclid(unit) - 2, top));
            }
        }
        if self.max_size_bytes > 0 {
            tasks.push(Task::Size(self.max_size_bytes));
        }
        tasks.push(Task::Space(self.max_size_bytes));
        Sweep { tasks: tasks.into_iter(), task: None, at: 0, rows: ROWS_FIRST, swept: Swept::default() }
    }
}

impl Retention {
    /// A pass over DNS alone.
    #[must_use]
    pub fn dns_sweep(&self, now: Micros) -> Sweep {
        let tasks: Vec<Task> = match before(now, self.dns_days) {
            None => Vec::new(),
            Some(before) => {
                DNS.iter().flat_map(|table| table.tasks(before)).chain([Task::Space(0)]).collect()
            }
        };
        Sweep { tasks: tasks.into_iter(), task: None, at: 0, rows: ROWS_FIRST, swept: Swept::default() }
    }
}

impl Sweep {
    /// A pass that takes nothing away: minutes that are over into their hours and days.
    #[must_use]
    pub fn of_rollups(now: Micros) -> Self {
        let tasks = vec![Task::RollUp(now.div_euclid(MINUTE_US) - LATE_MINUTES)];
        Self { tasks: tasks.into_iter(), task: None, at: 0, rows: ROWS_FIRST, swept: Swept::default() }
    }

    /// The next small step. After an error it can be taken again.
    pub fn step(&mut self, writer: &mut Writer) -> Result<Step, StoreError> {
        if self.task.is_none() {
            self.task = self.tasks.next();
            self.at = 0;
        }
        let Some(task) = self.task else { return Ok(Step::Done(self.swept)) };
        let (at, rows) = (self.at, self.rows);
        let began = Instant::now();
        let result = writer.maintain(|connection| match task {
            Task::Begin(now) => days::begin(connection, now),
            Task::Days(table, before) => days::drop_before(connection, &table, before, at),
            Task::Timed(table, before) => sweep::rows(connection, &table, before, at, rows),
            Task::RollUp(before) => rollup::roll_up(connection, before),
            Task::Buckets(place, before) => sweep::buckets(connection, &ROLLUPS[place], before, rows),
            Task::Minutes(table, before) => sweep::minutes(connection, table, before, rows),
            Task::Fold(place, before, top) => fold::buckets(connection, place, before, top, rows),
            Task::Size(most) => space::shrink(connection, most, rows),
            Task::Space(most) => space::give_back(connection, most, rows),
        });
        let went = match (result, task) {
            // Somebody reads for long. The other tables need not wait for it; the next sweep tries again.
            (Err(StoreError::Busy), Task::Days(..) | Task::Size(_)) => Went::Through,
            (result, _) => result?,
        };
        match went {
            Went::On { removed, at } => {
                self.at = at;
                self.swept.removed += removed;
                let slow = began.elapsed().as_millis() > STEP_MS;
                self.rows = if slow { self.rows / 2 } else { self.rows + self.rows / 4 };
                self.rows = self.rows.clamp(ROWS_MIN, ROWS_MAX);
            }
            Went::Through => self.task = None,
            Went::Beyond(bytes) => {
                self.swept.beyond = bytes;
                self.task = None;
            }
        }
        Ok(Step::More)
    }
}
