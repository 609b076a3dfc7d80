//! A database of a million flows, made by SQL from a few rows that the writer wrote.

use std::path::Path;

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::sql_types::Text;
use netmon_server::domain::{
    Changes, DnsResponse, FirewallDrop, FlowName, FlowRecord, Hook, HostName, Micros, NameReason, Observed,
};
use netmon_server::store::{self, DatabaseUrl, Sweep};

use crate::opened;
use crate::sample::{NOON, ended, gap, ip, open, tcp};

/// Rows of `flows`, `dns_queries` and `firewall_drops` each.
pub(crate) const MILLION: i64 = 1_000_000;
/// Rows of `remote_hosts` and `domains`: each many windows long.
const NOUNS: i64 = 150_000;
const DAY: Micros = 86_400_000_000;
/// Ids of the rows that are made begin here.
const FIRST: i64 = 1_000;

/// What Postgres keeps in one part a day, and the days of the rows here.
const DAILY: [&str; 3] = ["flows", "dns_queries", "firewall_drops"];
const FIRST_DAY: i64 = 10_000;
const DAYS: i64 = 5;

/// An id in the middle of the rows.
pub(crate) fn middle(url: &DatabaseUrl, rows: i64) -> i64 {
    match url {
        DatabaseUrl::Sqlite(_) => FIRST + rows / 2,
        DatabaseUrl::Postgres(_) => ((FIRST_DAY + DAYS / 2) << 32) + rows / 2,
    }
}

/// Devices 192.168.1.1 to .50: the first has every second flow, the last none but those that the writer wrote.
const DEVICES: i64 = 50;

fn template(router: netmon_server::domain::RouterId, id: i64) -> FlowRecord {
    let mut flow = tcp(router, id);
    let number = id % DEVICES + 1;
    flow.device = Some(ip(&format!("192.168.1.{number}")));
    flow.remote = Some(ip(&format!("203.0.113.{number}")));
    flow.name = Some(FlowName {
        domain: Some(format!("name-{number}.example.org").into()),
        confidence: 95,
        reason: NameReason::OnlyCandidate,
    });
    flow
}

/// Fills an empty database with `rows` flows, answers and drops of the 29 days before `now`, and tells Postgres' planner what is in it, as its autovacuum would.
pub(crate) fn fill(url: &DatabaseUrl, rows: i64, now: Micros) {
    let (store, mut writer, router) = opened(url);
    let flows: Vec<FlowRecord> = (0..DEVICES).map(|id| template(router, 1 + id)).collect();
    let answer = DnsResponse {
        client: ip("192.168.1.1"),
        name: "name-1.example.org".to_owned(),
        kind: 1,
        rcode: 0,
        answers: Vec::new(),
        resolver: None,
        cached: false,
    };
    let drop_ = FirewallDrop {
        hook: Hook::Input,
        prefix: "DROP".to_owned(),
        nflog_group: 1,
        in_interface: "wan0".to_owned(),
        out_interface: String::new(),
        src: ip("203.0.113.1"),
        dst: ip("192.168.1.1"),
        src_port: 1,
        dst_port: 22,
        protocol: 6,
        tcp_flags: Some(2),
        icmp: None,
        src_mac: None,
        length: 60,
        left_out: 0,
    };
    writer.commit(&ended(&flows)).unwrap();
    let changes = Changes {
        dns: vec![Observed { router, time: NOON, what: answer }],
        drops: vec![Observed { router, time: NOON, what: drop_ }],
        gaps: vec![gap(router, 6, 1, NOON)],
        open: (900..950).map(|id| open(&template(router, id))).collect(),
        ..Changes::default()
    };
    writer.commit(&changes).unwrap();
    writer
        .put_host_names(&[HostName {
            host: 1,
            name: Some("host.example.net".to_owned()),
            failed: false,
            asked: NOON,
            due: NOON,
        }])
        .unwrap();
    // Hours and days have rows to be multiplied, too.
    let mut minutes = Sweep::of_rollups(now.max(NOON) + DAY);
    while minutes.step(&mut writer).unwrap() == store::Step::More {}
    drop((store, writer));

    let mut connection = Direct::open(url);
    // Ids 1 to 50 are those of the devices, hosts and names of the templates.
    let device = "CASE WHEN i % 2 = 0 THEN 1 ELSE 2 + (i * 7919) % 48 END";
    let host = "CASE WHEN i % 4 = 0 THEN 1 ELSE 2 + (i * 7919) % 5000 END";
    let seen = format!("{now} - ({rows} - i) * {}", 29 * DAY / rows);
    let noun_seen = format!("{now} - ({NOUNS} - i) * {}", 29 * DAY / NOUNS);
    let noun = &[("first_seen_us", noun_seen.as_str()), ("last_seen_us", noun_seen.as_str())];
    connection.multiply(
        "flows",
        rows,
        &[
            ("device_id", device),
            ("host_id", host),
            ("domain_id", "CASE WHEN i % 3 = 0 THEN NULL ELSE 1 + (i * 31) % 2 * ((i * 7919) % 5000) END"),
            (
                "service_port",
                "CASE i % 10 WHEN 0 THEN 0 WHEN 1 THEN 53 WHEN 2 THEN 80 WHEN 3 THEN 1024 + (i * 7919) % 5000 ELSE 443 END",
            ),
            ("first_seen_us", &seen),
            ("lasted_us", "1000000"),
        ],
    );
    connection.multiply(
        "dns_queries",
        rows,
        &[("device_id", device), ("domain_id", "1 + i % 2 * ((i * 7919) % 5000)"), ("time_us", &seen)],
    );
    connection.multiply(
        "firewall_drops",
        rows,
        &[("device_id", device), ("host_id", host), ("time_us", &seen)],
    );
    connection.multiply("gaps", NOUNS, &[("from_us", &seen), ("to_us", &seen)]);
    connection.multiply("open_flows", 30_000, &[("device_id", device), ("host_id", host)]);
    let address = connection.address_of("i + 16777216");
    let devices = [("identity", address.as_str()), ("address", address.as_str())];
    connection.multiply("devices", 30_000, &[&devices[..], noun].concat());
    connection.multiply("remote_hosts", NOUNS, &[&[("address", address.as_str())], &noun[..]].concat());
    connection.multiply_keyed("host_names", NOUNS, &[("host_id", &format!("{FIRST} + i"))]);
    let name = "'host-' || i || '.example.org'";
    connection.multiply("domains", NOUNS, &[&[("name", name)], &noun[..]].concat());
    // Some days of minutes, a month of hours and days.
    let (minute, hour) = (60_000_000, 3_600_000_000);
    for (table, column, key, unit_us, buckets, each) in [
        ("host_minutes", "minute", "host_id", minute, 2_880, 50),
        ("device_minutes", "minute", "device_id", minute, 2_880, DEVICES),
        ("service_minutes", "minute", "port", minute, 2_880, 20),
        ("host_hours", "hour", "host_id", hour, 720, 500),
        ("device_hours", "hour", "device_id", hour, 720, DEVICES),
        ("service_hours", "hour", "port", hour, 720, 50),
        ("host_days", "day", "host_id", DAY, 60, 500),
        ("device_days", "day", "device_id", DAY, 60, DEVICES),
        ("service_days", "day", "port", DAY, 60, 50),
    ] {
        let last = now / unit_us;
        let (bucket, thing) = (
            format!("{last} - 1 - (i - 1) / {each}"),
            format!("{} + i % {each}", if each > DEVICES { FIRST + 1 } else { 1 }),
        );
        let moved = "1000 * (1 + (i * 7919) % 1000)";
        let changed = [(column, bucket.as_str()), (key, thing.as_str()), ("bytes_orig", moved)];
        connection.multiply_keyed(table, buckets * each, &changed);
    }
    // The last minutes wait for their hour, as they do while a server runs.
    let mark = now / minute - 3;
    connection.execute(&format!("UPDATE settings SET value = '{mark}' WHERE key = 'rolled_minute'"));
    // A server that goes on here gives ids that are not taken; those of Postgres begin with the day.
    if matches!(connection, Direct::Sqlite(_)) {
        connection.execute(&format!("UPDATE id_blocks SET next_id = next_id + {FIRST} + {rows}"));
    }
    if let Direct::Postgres(connection) = &mut connection {
        connection.batch_execute("VACUUM ANALYZE").unwrap();
    }
}

/// A connection of the test's own.
pub(crate) enum Direct {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

#[derive(QueryableByName)]
struct Named {
    #[diesel(sql_type = Text)]
    name: String,
}

#[derive(QueryableByName)]
struct Step {
    #[diesel(sql_type = Text)]
    detail: String,
}

impl Direct {
    pub(crate) fn open(url: &DatabaseUrl) -> Self {
        match url {
            DatabaseUrl::Sqlite(path) => {
                let mut connection = SqliteConnection::establish(path_text(path)).unwrap();
                let fast =
                    "PRAGMA synchronous = OFF; PRAGMA cache_size = -400000; PRAGMA busy_timeout = 5000;";
                connection.batch_execute(fast).unwrap();
                Self::Sqlite(connection)
            }
            DatabaseUrl::Postgres(url) => Self::Postgres(PgConnection::establish(url).unwrap()),
        }
    }

    pub(crate) fn execute(&mut self, sql: &str) {
        match self {
            Self::Sqlite(connection) => connection.batch_execute(sql).unwrap(),
            Self::Postgres(connection) => connection.batch_execute(sql).unwrap(),
        }
    }

    /// A query whose rows are one text each, called `name`.
    pub(crate) fn texts(&mut self, sql: &str) -> Vec<String> {
        let query = diesel::sql_query(sql);
        let rows: Vec<Named> = match self {
            Self::Sqlite(connection) => query.load(connection),
            Self::Postgres(connection) => query.load(connection),
        }
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
        rows.into_iter().map(|row| row.name).collect()
    }

    /// What SQLite would do for a statement.
    pub(crate) fn plan(&mut self, sql: &str) -> Vec<String> {
        let Self::Sqlite(connection) = self else { panic!("told on SQLite") };
        let rows: Vec<Step> = diesel::sql_query(format!("EXPLAIN QUERY PLAN {sql}"))
            .load(connection)
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        rows.into_iter().map(|row| row.detail).collect()
    }

    /// Four bytes of a number.
    fn address_of(&self, number: &str) -> String {
        match self {
            Self::Sqlite(_) => format!("unhex(printf('%08x', {number}))"),
            Self::Postgres(_) => format!("decode(lpad(to_hex({number}), 8, '0'), 'hex')"),
        }
    }

    /// Adds rows like the table's first, but for their ids and what is said here; `i` counts them from 1.
    fn multiply(&mut self, table: &str, rows: i64, changed: &[(&str, &str)]) {
        let id = if matches!(self, Self::Postgres(_)) && DAILY.contains(&table) {
            self.make_parts(table);
            format!("(({FIRST_DAY} + (i - 1) / ({rows} / {DAYS} + 1)) << 32) + i")
        } else {
            format!("{FIRST} + i")
        };
        self.multiply_keyed(table, rows, &[&[("id", id.as_str())], changed].concat());
    }

    /// Makes a part of a table of Postgres for each of the days of the rows.
    fn make_parts(&mut self, table: &str) {
        for day in FIRST_DAY..FIRST_DAY + DAYS {
            self.execute(&format!(
                "CREATE TABLE {table}_of_{day} PARTITION OF {table} FOR VALUES FROM ({}) TO ({})",
                day << 32,
                (day + 1) << 32,
            ));
        }
    }

    fn multiply_keyed(&mut self, table: &str, rows: i64, changed: &[(&str, &str)]) {
        let columns = self.texts(&match self {
            Self::Sqlite(_) => {
                format!("SELECT '\"' || name || '\"' AS name FROM pragma_table_info('{table}')")
            }
            Self::Postgres(_) => format!(
                "SELECT '\"' || column_name || '\"' AS name FROM information_schema.columns
                 WHERE table_name = '{table}' AND table_schema = 'public' ORDER BY ordinal_position"
            ),
        });
        let values: Vec<&str> = columns
            .iter()
            .map(|column| {
                let change = changed.iter().find(|(name, _)| *name == column.trim_matches('"'));
                change.map_or(column.as_str(), |(_, value)| *value)
            })
            .collect();
        assert!(
            changed.iter().all(|(name, _)| columns.contains(&format!("\"{name}\""))),
            "{table}: {columns:?}"
        );
        let (with, numbers) = match self {
            Self::Sqlite(_) => (
                format!("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) "),
                "n".to_owned(),
            ),
            Self::Postgres(_) => (String::new(), format!("generate_series(1::bigint, {rows}) AS n (i)")),
        };
        self.execute(&format!(
            "{with}INSERT INTO {table} ({}) SELECT {} FROM {numbers}, (SELECT * FROM {table} LIMIT 1) AS first",
            columns.join(", "),
            values.join(", "),
        ));
    }
}

fn path_text(path: &Path) -> &str {
    path.to_str().unwrap()
}
