//! What the original agent posted on a day, to a server on Postgres: whole, and twice more.

use diesel::prelude::*;
use diesel::sql_types::Text;
use netmon_server::store::DatabaseUrl;
use serde_json::Value;

use crate::away::{TOKEN, start, url_of};
use crate::recording::{BATCHES, EVENTS, ROWS, again, is_there_at_once};

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    line: String,
}

/// Every row of every table that a batch writes.
fn all_rows(url: &str) -> Vec<String> {
    let mut connection = PgConnection::establish(url).unwrap();
    let mut load = |query: &str| -> Vec<String> {
        let rows: Vec<Line> = diesel::sql_query(query).load(&mut connection).unwrap();
        rows.into_iter().map(|row| row.line).collect()
    };
    // Parts are read as their whole.
    let tables = load(
        "SELECT relname::text AS line FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition \
         AND relnamespace = 'public'::regnamespace ORDER BY 1",
    );
    let mut all = Vec::new();
    for table in tables {
        all.extend(load(&format!("SELECT '{table}: ' || t::text AS line FROM {table} t ORDER BY 1")));
    }
    all.retain(|row| is_there_at_once(row));
    all
}

pub(crate) fn the_original_agents_day_counts_once(url: &DatabaseUrl) {
    let DatabaseUrl::Postgres(database) = url else { unreachable!("a story of Postgres") };
    let mut server = start(database);
    let path = format!("{}/api/v1/netmon/events/batch", url_of(&mut server));
    let post = |body: &str| -> (u64, u64) {
        let request = ureq::post(&path).header("Authorization", format!("Bearer {TOKEN}"));
        let mut response = request.header("Content-Type", "application/json").send(body).unwrap();
        let answer: Value = serde_json::from_str(&response.body_mut().read_to_string().unwrap()).unwrap();
        (answer["accepted"].as_u64().unwrap(), answer["rejected"].as_u64().unwrap())
    };
    let mut told = (0, 0);
    for body in &*BATCHES {
        let (accepted, rejected) = post(body);
        told = (told.0 + accepted, told.1 + rejected);
    }
    assert_eq!(told, (EVENTS, 0));
    let once = all_rows(database);
    let rows_of = |table: &str| {
        let prefix = format!("{table}: ");
        once.iter().filter(|row| row.starts_with(&prefix)).count()
    };
    assert_eq!(ROWS.map(|(table, _)| (table, rows_of(table))), ROWS);
    for body in &*BATCHES {
        post(body);
    }
    assert!(all_rows(database) == once, "posted again");
    for body in &*BATCHES {
        post(&again(body));
    }
    assert!(all_rows(database) == once, "posted with another sent_at");
}
