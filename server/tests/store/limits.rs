//! What those who read may take of Postgres.

use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, PgConnection};
use netmon_server::store::{DatabaseUrl, FlowFilter, Page, ReadLimits, Store, StoreError};

use crate::opened;
use crate::sample::{ended, tcp};

const READERS: u32 = 3;
const PATIENCE: Duration = Duration::from_millis(300);
const STATEMENT: Duration = Duration::from_secs(4);

/// Somebody locks a table. Those who read it are told after the limit of a statement; meanwhile they hold all
/// connections, and one more is told within its patience. Afterwards all is as before.
pub(crate) fn a_reader_waits_no_longer_than_it_may(url: &DatabaseUrl) {
    let (_, mut writer, router) = opened(url);
    writer.commit(&ended(&[tcp(router, 1)])).unwrap();
    let limits = ReadLimits { readers: READERS, patience: PATIENCE, statement: STATEMENT };
    let store = Store::open_with(url, limits).unwrap();
    let read = || {
        let begin = Instant::now();
        let page = store.reader().flows(&FlowFilter::default(), Page { before: None, limit: 10 });
        (page.map(|page| page.items.len()), begin.elapsed())
    };
    assert_eq!(read().0.unwrap(), 1);

    let DatabaseUrl::Postgres(text) = url else { unreachable!("a story of Postgres") };
    let mut other = PgConnection::establish(text).unwrap();
    other.batch_execute("BEGIN; LOCK TABLE flows IN ACCESS EXCLUSIVE MODE").unwrap();
    std::thread::scope(|scope| {
        let held: Vec<_> = (0..READERS).map(|_| scope.spawn(read)).collect();
        // Until all connections are taken.
        wait_for_locks(text, READERS.into());
        let (refused, after) = read();
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
        assert!((PATIENCE..STATEMENT).contains(&after), "told after {after:?}");
        // Where nobody tells them they would wait for as long as the table is locked.
        let begin = Instant::now();
        while begin.elapsed() < 2 * STATEMENT && !held.iter().all(|reader| reader.is_finished()) {
            std::thread::sleep(Duration::from_millis(50));
        }
        other.batch_execute("ROLLBACK").unwrap();
        for reader in held {
            let (page, after) = reader.join().unwrap();
            let error = page.unwrap_err().to_string();
            assert!(error.contains("statement timeout"), "{error}");
            assert!((STATEMENT..3 * STATEMENT).contains(&after), "told after {after:?}");
        }
    });
    assert_eq!(read().0.unwrap(), 1);
}

fn wait_for_locks(url: &str, waiting: i64) {
    use diesel::prelude::*;
    let mut connection = PgConnection::establish(url).unwrap();
    let begin = Instant::now();
    loop {
        let query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                     AND datname = current_database()";
        let locked: i64 =
            diesel::select(diesel::dsl::sql::<diesel::sql_types::BigInt>(&format!("({query})")))
                .get_result(&mut connection)
                .unwrap();
        if locked == waiting {
            return;
        }
        assert!(begin.elapsed() < STATEMENT / 2, "{locked} wait for the lock");
        std::thread::sleep(Duration::from_millis(10));
    }
}
