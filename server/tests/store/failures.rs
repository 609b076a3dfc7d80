//! Databases that are away, locked, read-only or no databases.

use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, SqliteConnection};
use netmon_server::domain::Changes;
use netmon_server::store::{DatabaseUrl, Store, StoreError};

use crate::postgres::Cluster;
use crate::proxy::Proxy;
use crate::sample::{NOON, cursor, ended, ping6, tcp};
use crate::schema::execute;
use crate::{all_flows, opened};

pub(crate) fn postgres_restarts_between_commits(mut cluster: Cluster) {
    let database = cluster.new_database();
    let url = DatabaseUrl::Postgres(cluster.url(&database));
    let (store, mut writer, router) = opened(&url);
    let first = Changes { cursors: vec![cursor(router, 1, None, 1)], ..ended(&[tcp(router, 1)]) };
    writer.commit(&first).unwrap();
    assert_eq!(all_flows(&store).len(), 1);

    // What was committed survived, and the next call finds the way back by itself.
    cluster.crash_and_restart();
    assert_eq!(writer.cursor(router, 1).unwrap(), Some(1));
    cluster.crash_and_restart();
    let second = Changes { cursors: vec![cursor(router, 1, Some(1), 2)], ..ended(&[ping6(router, 2)]) };
    writer.commit(&second).unwrap();
    assert_eq!(all_flows(&store).len(), 2);

    // While it is away, calls fail as "try again"; once it is back, the same changes go through.
    cluster.crash();
    let third = Changes { cursors: vec![cursor(router, 1, Some(2), 3)], ..ended(&[tcp(router, 3)]) };
    for _ in 0..2 {
        let error = writer.commit(&third).unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
        assert!(error.is_temporary());
    }
    assert!(matches!(writer.attach_router("gw", NOON), Err(StoreError::Unavailable(_))));
    cluster.run().unwrap();
    writer.commit(&third).unwrap();
    assert_eq!(all_flows(&store).len(), 3);
    assert_eq!(store.reader().totals().unwrap().flows.flows, 3);
    assert_eq!(writer.cursor(router, 1).unwrap(), Some(3));
}

pub(crate) fn an_answer_lost_on_the_way_is_not_written_twice(cluster: Cluster) {
    let database = cluster.new_database();
    let proxy = Proxy::before(cluster.socket_directory());
    let (store, mut writer, router) = opened(&DatabaseUrl::Postgres(proxy.url(&database)));
    proxy.lose_next_answer_to_commit();
    let changes = Changes { cursors: vec![cursor(router, 1, None, 1)], ..ended(&[tcp(router, 1)]) };
    writer.commit(&changes).unwrap();
    assert!(proxy.has_lost_it());
    assert_eq!(store.reader().totals().unwrap().device_minutes.flows, 1);
    assert_eq!(all_flows(&store).len(), 1);

    // Without a cursor nothing but the question to Postgres tells.
    proxy.lose_next_answer_to_commit();
    let minutes = ended(&[ping6(router, 2)]).minutes;
    writer.commit(&Changes { minutes, ..Changes::default() }).unwrap();
    assert!(proxy.has_lost_it());
    assert_eq!(store.reader().totals().unwrap().device_minutes.flows, 2);

    // And the writer goes on.
    let next = Changes { cursors: vec![cursor(router, 1, Some(1), 2)], ..ended(&[tcp(router, 3)]) };
    writer.commit(&next).unwrap();
    assert_eq!(all_flows(&store).len(), 2);
}

pub(crate) fn a_read_only_postgres_counts_as_full(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    let DatabaseUrl::Postgres(text) = url else { panic!("told on Postgres") };
    let name = text.split(['/', '?']).nth(3).unwrap();
    execute(url, &format!("ALTER DATABASE {name} SET default_transaction_read_only = on"));
    let mut late = store.writer().unwrap();
    let error = late.commit(&ended(&[tcp(router, 1)])).unwrap_err();
    assert!(matches!(error, StoreError::Full), "{error}");
    assert!(error.is_temporary());
    // This one's session began before.
    writer.commit(&ended(&[tcp(router, 1)])).unwrap();
}

/// Waits out the busy time-out once.
pub(crate) fn a_locked_database_is_busy(url: &DatabaseUrl) {
    let (store, mut writer, router) = opened(url);
    let DatabaseUrl::Sqlite(path) = url else { panic!("told on SQLite") };
    let mut other = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    other.batch_execute("BEGIN IMMEDIATE").unwrap();
    let changes = ended(&[tcp(router, 1)]);
    let error = writer.commit(&changes).unwrap_err();
    assert!(matches!(error, StoreError::Busy), "{error}");
    assert_eq!(all_flows(&store), []);
    other.batch_execute("COMMIT").unwrap();
    writer.commit(&changes).unwrap();
    assert_eq!(all_flows(&store).len(), 1);
}

pub(crate) fn what_is_not_a_database_is_named(url: &DatabaseUrl) {
    let DatabaseUrl::Sqlite(path) = url else { panic!("told on SQLite") };
    let text = "this is a letter and not a database\n".repeat(300);
    std::fs::write(path, &text).unwrap();
    let error = Store::open(url).err().unwrap();
    assert!(matches!(error, StoreError::Damaged(_)), "{error}");
    assert_eq!(std::fs::read_to_string(path).unwrap(), text, "it was written to");

    let nowhere = DatabaseUrl::Sqlite(path.join("no/such/directory/netmon.db"));
    let error = Store::open(&nowhere).err().unwrap();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
}
