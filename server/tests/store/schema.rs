//! Opening, migrating, and what the two databases have in common.

use std::collections::BTreeSet;
use std::path::Path;

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Text};
use diesel_migrations::{FileBasedMigrations, MigrationHarness};
use netmon_server::domain::{Changes, Counters};
use netmon_server::store::{DatabaseUrl, Store, StoreError};

use crate::events::lines;
use crate::sample::{NOON, ended, open, ping6, tcp};
use crate::{all_flows, opened};

pub(crate) fn two_writers_never_share_an_id(url: &DatabaseUrl) {
    let store = Store::open(url).unwrap();
    let firsts: Vec<i64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut writer = store.writer().unwrap();
                    (0..20).map(|_| writer.reserve_flow_ids(1_000).unwrap()).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let blocks: BTreeSet<i64> = firsts.iter().copied().collect();
    assert_eq!(blocks, (0..40).map(|block| 1 + 1_000 * block).collect());
    // A block of another size, and none given twice after the database was opened again.
    assert_eq!(Store::open(url).unwrap().writer().unwrap().reserve_flow_ids(7).unwrap(), 40_001);
    assert_eq!(store.writer().unwrap().reserve_flow_ids(1).unwrap(), 40_008);
}

pub(crate) fn a_newer_database_is_refused(url: &DatabaseUrl) {
    drop(opened(url));
    execute(
        url,
        "INSERT INTO __diesel_schema_migrations (version) VALUES ('9998'), ('9999');
         UPDATE settings SET value = '7.8.9' WHERE key = 'schema_program';",
    );
    for _ in 0..2 {
        let Err(error) = Store::open(url) else { panic!("a newer database was opened") };
        assert!(matches!(error, StoreError::Newer { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("schema 9999 of netmon-server 7.8.9"), "{text}");
        let folders = std::fs::read_dir(migrations("sqlite")).unwrap();
        let newest = folders.map(|folder| folder.unwrap().file_name().into_string().unwrap()).max().unwrap();
        let known = newest.split('_').next().unwrap();
        let program = format!("schema {known} of netmon-server {}", env!("CARGO_PKG_VERSION"));
        assert!(text.contains(&program), "{text} has no {program}");
    }
    // It was left as it was: without the foreign rows it opens.
    execute(url, "DELETE FROM __diesel_schema_migrations WHERE version IN ('9998', '9999');");
    Store::open(url).unwrap();
}

/// The schema of an earlier program, with rows in it, and back again.
pub(crate) fn an_earlier_schema_keeps_its_rows(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    let mut plain = tcp(router, 3);
    (plain.key.zone, plain.mark, plain.before) = (0, 0, Counters::default());
    plain.kernel_start = Some(plain.first_seen);
    writer.commit(&ended(&[tcp(router, 1), ping6(router, 2), plain])).unwrap();
    writer.commit(&Changes { open: vec![open(&tcp(router, 4))], ..Changes::default() }).unwrap();
    let (flows, totals) = (all_flows(&store), store.reader().totals().unwrap());
    drop((store, writer));
    revert(url, "0011");
    let before = ["last_seen_us", "kernel_start_us", "dst_ip", "ends", "domain_confidence", "end_kind"];
    let (first, last) = (NOON, NOON + 5_000_001);
    assert_eq!(
        lines(url, &before, "FROM flows ORDER BY id"),
        [
            format!("{last} {} cb007105 9 95 1", first - 7),
            format!("{} - 20010db8000000000000000000000021 1 - 2", first + 1),
            format!("{last} {first} cb007105 9 95 1"),
        ]
    );
    // Which that program wrote.
    execute(url, "UPDATE flows SET flow_id = 4294967296 + id, conntrack_id = 5 WHERE flow_id < 0");
    revert(url, "0010");
    revert(url, "0009");
    let before = ["zone", "mark", "dst_port", "packets_reply_before"];
    assert_eq!(lines(url, &before, "FROM flows WHERE id = 3"), ["0 0 443 0"]);
    assert_eq!(
        lines(url, &["flows"], "FROM host_hours WHERE host_id > 0 ORDER BY flows DESC LIMIT 1"),
        ["2"]
    );

    let store = Store::open(url).unwrap();
    assert_eq!(all_flows(&store), flows);
    assert_eq!(store.reader().totals().unwrap(), totals);
}

/// Takes the newest migration back, which is this one.
pub(crate) fn revert(url: &DatabaseUrl, version: &str) {
    fn last<DB: diesel::backend::Backend>(
        connection: &mut impl MigrationHarness<DB>,
        database: &str,
    ) -> String {
        let source = FileBasedMigrations::from_path(migrations(database)).unwrap();
        connection.revert_last_migration(source).unwrap().to_string()
    }
    let reverted = match url {
        DatabaseUrl::Sqlite(_) => last(&mut sqlite_connection(url), "sqlite"),
        DatabaseUrl::Postgres(url) => last(&mut PgConnection::establish(url).unwrap(), "postgres"),
    };
    assert_eq!(reverted, version);
}

pub(crate) fn servers_may_start_at_once(url: &DatabaseUrl) {
    let start = std::sync::Barrier::new(4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                start.wait();
                let store = Store::open(url).unwrap();
                store.writer().unwrap().attach_router("gw", NOON).unwrap();
            });
        }
    });
    assert_eq!(Store::open(url).unwrap().reader().routers().unwrap().len(), 1);
}

pub(crate) fn opening_again_changes_nothing(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    writer.commit(&ended(&[tcp(router, 1)])).unwrap();
    let before = store.reader().totals().unwrap();
    assert_eq!(before.flows.flows, 1);
    drop((store, writer));
    assert_eq!(Store::open(url).unwrap().reader().totals().unwrap(), before);
}

pub(crate) fn migrations(database: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations").join(database)
}

pub(crate) fn both_databases_have_the_same_list() {
    let names = |database: &str| -> BTreeSet<String> {
        let entries = std::fs::read_dir(migrations(database)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let sqlite = names("sqlite");
    assert!(!sqlite.is_empty());
    assert_eq!(sqlite, names("postgres"));

    // What is built into the program is what the folder holds: a new folder alone does not rebuild it.
    let directory = tempfile::tempdir().unwrap();
    let url = DatabaseUrl::Sqlite(directory.path().join("netmon.db"));
    drop(Store::open(&url).unwrap());
    let applied: Vec<Named> = sqlite_connection(&url)
        .load_names("SELECT version AS name FROM __diesel_schema_migrations ORDER BY 1");
    let versions: Vec<&str> = sqlite.iter().map(|name| name.split('_').next().unwrap()).collect();
    assert_eq!(applied.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), versions);
}

#[derive(QueryableByName)]
struct Named {
    #[diesel(sql_type = Text)]
    name: String,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, QueryableByName)]
struct Column {
    #[diesel(sql_type = Text)]
    table_name: String,
    #[diesel(sql_type = Text)]
    column_name: String,
    /// The word for it in SQLite.
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Bool)]
    required: bool,
}

/// Told on Postgres; makes a SQLite database to compare with.
pub(crate) fn both_databases_have_the_same_columns(url: &DatabaseUrl) {
    let DatabaseUrl::Postgres(postgres) = url else { panic!("told on Postgres") };
    drop(Store::open(url).unwrap());
    let directory = tempfile::tempdir().unwrap();
    let sqlite = DatabaseUrl::Sqlite(directory.path().join("netmon.db"));
    drop(Store::open(&sqlite).unwrap());

    let mut theirs: Vec<Column> = diesel::sql_query(
        "SELECT table_name::text, column_name::text, is_nullable = 'NO' AS required,
                CASE data_type WHEN 'text' THEN 'TEXT' WHEN 'bytea' THEN 'BLOB' WHEN 'bigint' THEN 'INTEGER'
                     WHEN 'integer' THEN 'INTEGER' WHEN 'smallint' THEN 'INTEGER' WHEN 'boolean' THEN 'INTEGER'
                     ELSE data_type END AS kind
         FROM information_schema.columns
         WHERE table_schema = 'public' AND table_name <> '__diesel_schema_migrations'
           AND NOT EXISTS (SELECT 1 FROM pg_class WHERE relname = table_name AND relispartition)",
    )
    .load(&mut PgConnection::establish(postgres).unwrap())
    .unwrap();
    let mut ours: Vec<Column> = diesel::sql_query(
        "SELECT t.name AS table_name, c.name AS column_name, c.type AS kind, c.\"notnull\" AS required
         FROM sqlite_master t JOIN pragma_table_info(t.name) c
         WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite%' AND t.name <> '__diesel_schema_migrations'",
    )
    .load(&mut sqlite_connection(&sqlite))
    .unwrap();
    theirs.sort();
    ours.sort();
    assert!(ours.len() > 100);
    assert_eq!(ours, theirs);
}

trait LoadNames {
    fn load_names(&mut self, query: &str) -> Vec<Named>;
}

impl LoadNames for SqliteConnection {
    fn load_names(&mut self, query: &str) -> Vec<Named> {
        diesel::sql_query(query).load(self).unwrap()
    }
}

/// A connection of the test's own. A store that was dropped may still be closing its.
pub(crate) fn sqlite_connection(url: &DatabaseUrl) -> SqliteConnection {
    let DatabaseUrl::Sqlite(path) = url else { panic!("not a SQLite database") };
    let mut connection = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    connection.batch_execute("PRAGMA busy_timeout = 30000").unwrap();
    connection
}

/// Pages of the file that hold nothing.
pub(crate) fn free_pages(url: &DatabaseUrl) -> i64 {
    #[derive(QueryableByName)]
    struct Free {
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        freelist_count: i64,
    }
    let row: Free = diesel::sql_query("SELECT freelist_count FROM pragma_freelist_count")
        .get_result(&mut sqlite_connection(url))
        .unwrap();
    row.freelist_count
}

/// Does to the database what no netmon-server would.
pub(crate) fn execute(url: &DatabaseUrl, sql: &str) {
    match url {
        DatabaseUrl::Sqlite(_) => sqlite_connection(url).batch_execute(sql).unwrap(),
        DatabaseUrl::Postgres(url) => PgConnection::establish(url).unwrap().batch_execute(sql).unwrap(),
    }
}
