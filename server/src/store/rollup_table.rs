//! The tables of the rollups, and how rows are added up in them.
//!
//! Their SQL is made from this list: nine tables differ in nothing but their names and keys.

use std::sync::LazyLock;

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt};
use diesel::sqlite::Sqlite;

use crate::domain::Counters;

/// A table `(time, router_id, keys, figures)` whose primary key is all that stands before the figures.
pub(super) struct Rollup {
    pub(super) table: &'static str,
    /// The column that counts minutes, hours or days since 1970.
    pub(super) time: &'static str,
    /// The unit of that column, in minutes.
    pub(super) minutes: i64,
    /// What else tells rows apart beside time and router.
    pub(super) keys: &'static [&'static str],
    /// The keys of the row that stands for everything that is not kept by itself.
    pub(super) others: [i64; 2],
    /// The condition of a row that stands for one thing.
    pub(super) single: &'static str,
}

pub(super) const FIGURES: [&str; 5] = ["flows", "bytes_orig", "bytes_reply", "packets_orig", "packets_reply"];

const MINUTE: i64 = 1;
const HOUR: i64 = 60;
const DAY: i64 = 24 * HOUR;

type Kind = (&'static [&'static str], [i64; 2], &'static str);

const DEVICE: Kind = (&["device_id"], [-1, 0], "device_id > 0");
const SERVICE: Kind = (&["protocol", "port"], [0, -1], "port >= 0");
const HOST: Kind = (&["host_id"], [-1, 0], "host_id > 0");

const fn rollup(
    table: &'static str,
    time: &'static str,
    minutes: i64,
    (keys, others, single): Kind,
) -> Rollup {
    Rollup { table, time, minutes, keys, others, single }
}

/// All of them, in the order in which they are written.
pub(super) const ROLLUPS: [Rollup; 9] = [
    rollup("device_minutes", "minute", MINUTE, DEVICE),
    rollup("device_hours", "hour", HOUR, DEVICE),
    rollup("device_days", "day", DAY, DEVICE),
    rollup("service_minutes", "minute", MINUTE, SERVICE),
    rollup("service_hours", "hour", HOUR, SERVICE),
    rollup("service_days", "day", DAY, SERVICE),
    rollup("host_minutes", "minute", MINUTE, HOST),
    rollup("host_hours", "hour", HOUR, HOST),
    rollup("host_days", "day", DAY, HOST),
];

/// Places in [`ROLLUPS`] of the first table of each kind; hours and days follow it.
pub(super) const DEVICES: usize = 0;
pub(super) const SERVICES: usize = 3;
pub(super) const HOSTS: usize = 6;

/// Time, router, and up to two keys; zero where a table has fewer.
pub(super) type Key = [i64; 4];

/// What a row holds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    pub(super) flows: i64,
    pub(super) counters: Counters,
}

impl Sum {
    pub(super) fn add(&mut self, flows: i64, counters: Counters) {
        self.flows = self.flows.saturating_add(flows);
        self.counters = self.counters.plus(counters);
    }

    /// In the order of [`FIGURES`].
    fn figures(&self) -> [i64; 5] {
        let Counters { bytes_orig, bytes_reply, packets_orig, packets_reply } = self.counters;
        [self.flows, bytes_orig, bytes_reply, packets_orig, packets_reply]
    }
}

/// ` ON CONFLICT ... DO UPDATE`, which adds the figures to the row that is there. A sum beyond 63 bits stays at the
/// largest number: Postgres would refuse the row and with it everything behind it, SQLite would turn it into an inexact
/// number.
pub(super) fn add_up(table: &str, keys: &[&str]) -> String {
    let sets: Vec<String> = FIGURES
        .iter()
        .map(|figure| {
            let (old, new) = (format!("{table}.{figure}"), format!("excluded.{figure}"));
            format!(
                "{figure} = CASE WHEN {old} > 9223372036854775807 - {new} THEN 9223372036854775807 \
                 ELSE {old} + {new} END"
            )
        })
        .collect();
    format!(" ON CONFLICT ({}) DO UPDATE SET {}", keys.join(", "), sets.join(", "))
}

impl Rollup {
    /// The columns of the primary key.
    pub(super) fn key_columns(&self) -> impl Iterator<Item = &'static str> {
        [self.time, "router_id"].into_iter().chain(self.keys.iter().copied())
    }

    /// Expressions of the two keys; zero where there is only one.
    pub(super) fn key_pair(&self) -> [&'static str; 2] {
        match *self.keys {
            [first, second] => [first, second],
            [first, ..] => [first, "0"],
            [] => ["0", "0"],
        }
    }

    fn add_up(&self) -> String {
        let keys: Vec<&str> = self.key_columns().collect();
        add_up(self.table, &keys)
    }

    fn insert_into(&self) -> String {
        let columns: Vec<&str> = self.key_columns().chain(FIGURES).collect();
        format!("INSERT INTO {} ({})", self.table, columns.join(", "))
    }
}

impl Rollup {
    /// Adds the rows of a minute to this bucket.
    pub(super) fn add_bucket(&self, bucket: i64, minutes: &Self, minute: i64) -> String {
        let columns: Vec<&str> = self.key_columns().skip(1).chain(FIGURES).collect();
        format!(
            "{} SELECT {bucket}, {} FROM {} WHERE minute = {minute}{}",
            self.insert_into(),
            columns.join(", "),
            minutes.table,
            self.add_up()
        )
    }
}

/// What stands before and after the values of a statement that adds rows to the table at each place of [`ROLLUPS`].
/// Diesel asks for the text whenever the statement runs, also where it is prepared already.
static AROUND_VALUES: LazyLock<[(String, String); ROLLUPS.len()]> =
    LazyLock::new(|| ROLLUPS.each_ref().map(|rollup| (rollup.insert_into(), rollup.add_up())));

/// Adds one row to the table at this place of [`ROLLUPS`]. With an identity of its own, so that it is prepared once a
/// connection; see [`flow_statements`](super::flow_statements).
pub(super) struct Add<const TABLE: usize> {
    key: Key,
    figures: [i64; FIGURES.len()],
}

/// Adds many rows, which must differ in their keys, by one statement of Postgres.
pub(super) struct AddMany<const TABLE: usize> {
    columns: Vec<Vec<i64>>,
}

/// How many columns the primary key of the table at this place has.
const fn key_width(table: usize) -> usize {
    2 + ROLLUPS[table].keys.len()
}

impl<const TABLE: usize> Add<TABLE> {
    pub(super) fn new(key: &Key, sum: &Sum) -> Self {
        Self { key: *key, figures: sum.figures() }
    }
}

impl<const TABLE: usize> AddMany<TABLE> {
    pub(super) fn new<'a>(rows: impl Iterator<Item = (&'a Key, &'a Sum)>) -> Self {
        let mut columns = vec![Vec::new(); key_width(TABLE) + FIGURES.len()];
        for (key, sum) in rows {
            let values = key.iter().take(key_width(TABLE)).copied().chain(sum.figures());
            for (column, value) in columns.iter_mut().zip(values) {
                column.push(value);
            }
        }
        Self { columns }
    }
}

impl<const TABLE: usize> QueryFragment<Sqlite> for Add<TABLE> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        let (before, after) = &AROUND_VALUES[TABLE];
        out.push_sql(before);
        for (place, value) in self.key.iter().take(key_width(TABLE)).chain(&self.figures).enumerate() {
            out.push_sql(if place == 0 { " VALUES (" } else { ", " });
            out.push_bind_param::<BigInt, _>(value)?;
        }
        out.push_sql(")");
        out.push_sql(after);
        Ok(())
    }
}

impl<const TABLE: usize> QueryFragment<Pg> for AddMany<TABLE> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        let (before, after) = &AROUND_VALUES[TABLE];
        out.push_sql(before);
        for (place, column) in self.columns.iter().enumerate() {
            out.push_sql(if place == 0 { " SELECT * FROM UNNEST(" } else { ", " });
            out.push_bind_param::<Array<BigInt>, _>(column)?;
        }
        out.push_sql(")");
        out.push_sql(after);
        Ok(())
    }
}

impl<const TABLE: usize> QueryId for Add<TABLE> {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<const TABLE: usize> QueryId for AddMany<TABLE> {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<const TABLE: usize> RunQueryDsl<SqliteConnection> for Add<TABLE> {}
impl<const TABLE: usize> RunQueryDsl<PgConnection> for AddMany<TABLE> {}
