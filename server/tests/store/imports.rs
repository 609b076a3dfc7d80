//! The command `import`: what it copies and refuses, and what is seen of it meanwhile.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::Stdio;

use netmon_server::domain::Changes;
use netmon_server::store::DatabaseUrl;

use crate::commands::{program, rows, run};
use crate::events::lines;
use crate::opened;
use crate::sample::{ended, open, tcp};
use crate::schema::execute;

/// A SQLite database with as many flows as two statements of an import copy, and one that is open.
fn two_chunks(path: &Path) -> DatabaseUrl {
    let from = DatabaseUrl::Sqlite(path.to_owned());
    let (_store, mut writer, router) = opened(&from);
    let flows: Vec<_> = (1..=4_000).map(|id| tcp(router, id)).collect();
    writer.commit(&ended(&flows)).unwrap();
    writer.commit(&Changes { open: vec![open(&tcp(router, 5_000))], ..Changes::default() }).unwrap();
    from
}

/// Told on Postgres: where nobody looks there is a line for each table, on a terminal a bar.
pub(crate) fn it_tells_how_far_it_is(url: &DatabaseUrl) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("netmon.db");
    let from = two_chunks(&path);
    let args = ["import", path.to_str().unwrap(), "--database-url", &url.to_string()];
    let (code, out, err) = run(args);
    assert_eq!(code, 0, "{err}");
    let tables = lines(
        &from,
        &["name"],
        "FROM sqlite_master WHERE type = 'table' AND substr(name, 1, 6) NOT IN ('sqlite', '__dies')",
    );
    let of: Vec<(String, i64)> = tables.iter().map(|table| (table.clone(), rows(&from, table))).collect();
    let told: Vec<String> = err.lines().map(str::to_owned).collect();
    let expected: Vec<String> = of
        .iter()
        .map(|(table, rows)| format!("{table}: {rows} {}", if *rows == 1 { "row" } else { "rows" }))
        .collect();
    assert_eq!(told, expected);
    assert!(told.contains(&"flows: 4000 rows".to_owned()), "{err}");
    let sum: i64 = of.iter().map(|(_, rows)| rows).sum();
    assert_eq!(out, format!("{sum} rows copied, all sums agree\n"));
    assert_eq!(rows(url, "flows"), 4_000);

    // Into the same again: refused before anything is told.
    let (code, out, err) = run(args);
    let expected = format!(
        "netmon-server: {from} was not imported: the database refused: the Postgres database holds routers already: \
         expected an empty one\n"
    );
    assert_eq!((code, out.as_str(), err), (1, "", expected));
    assert_eq!(rows(url, "flows"), 4_000);

    execute(url, "DROP SCHEMA public CASCADE; CREATE SCHEMA public;");
    let (code, shown) = on_a_terminal(&args);
    assert_eq!(code, 0, "{shown}");
    let told: Vec<&str> = shown.split_inclusive("\r\n").collect();
    assert_eq!(told.len(), of.len(), "{shown}");
    for (line, (table, rows)) in told.iter().zip(&of) {
        let full = format!("\r{table:20} {} {rows} of {rows}\r\n", "#".repeat(30));
        let half = format!("\r{table:20} {}{} 2000 of 4000", "#".repeat(15), ".".repeat(15));
        let expected = if *rows == 4_000 { half + &full } else { full };
        assert_eq!(*line, expected);
    }
}

/// Told on Postgres: what has no row id is gone through by its key, whatever is in that.
pub(crate) fn keys_of_all_kinds_are_gone_through(url: &DatabaseUrl) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("netmon.db");
    let from = two_chunks(&path);
    let numbers =
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 4499) INSERT INTO";
    execute(
        &from,
        &format!(
            "{numbers} dns_answers (query_id, position, domain_id, type) SELECT 1 + i / 7, i % 7, i, 1 FROM n;
             {numbers} http_batches (router_id, digest, time_us, accepted, rejected) SELECT 1, randomblob(32), i, 1, 0 FROM n;
             {numbers} device_names (device_id, source, name, first_seen_us, last_seen_us)
             SELECT 1, 1, 'it''s \"' || i || char(10), i, i FROM n;"
        ),
    );
    let (code, _, err) = run(["import", path.to_str().unwrap(), "--database-url", &url.to_string()]);
    assert_eq!(code, 0, "{err}");
    for (table, columns) in [
        ("dns_answers", ["query_id", "position", "domain_id"]),
        ("http_batches", ["router_id", "hex", "time_us"]),
        ("device_names", ["device_id", "name", "last_seen_us"]),
    ] {
        let read = |url: &DatabaseUrl| {
            let hex = match url {
                DatabaseUrl::Sqlite(_) => "lower(hex(digest))",
                DatabaseUrl::Postgres(_) => "encode(digest, 'hex')",
            };
            let columns = columns.map(|column| if column == "hex" { hex } else { column });
            let mut rows = lines(url, &columns, &format!("FROM {table}"));
            rows.sort();
            rows
        };
        let there = read(url);
        assert_eq!(there.len(), 4_500, "{table}");
        assert!(there == read(&from), "{table}");
    }
}

/// Told on Postgres.
pub(crate) fn it_refuses_what_it_cannot_copy(url: &DatabaseUrl) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("netmon.db");
    let from = two_chunks(&path);
    let to = url.to_string();
    let file = path.to_str().unwrap();
    // A text that Postgres does not take, in the last of the rows.
    execute(
        &from,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
         INSERT INTO settings (key, value) SELECT 'key ' || i, iif(i = 3000, char(0), '') FROM n",
    );
    let (code, shown) = on_a_terminal(&["import", file, "--database-url", &to]);
    assert_eq!(code, 1, "{shown}");
    let error = format!("\r\nnetmon-server: {from} was not imported: ");
    assert_eq!(shown.matches(&error).count(), 1, "{shown}");
    assert_eq!(rows(url, "flows"), 0);

    let other = directory.path().join("letter.txt");
    std::fs::write(&other, "Dear Sir or Madam").unwrap();
    let letter = other.to_str().unwrap();
    for (args, code, expected) in [
        (
            ["import", letter, "--database-url", &to],
            1,
            format!(
                "sqlite:{letter} was not imported: the database is damaged: file is not a database; keep"
            ),
        ),
        (["import", "/nowhere/x", "--database-url", &to], 2, "/nowhere/x: there is no database".to_owned()),
        (["import", &to, "--database-url", &to], 2, format!("{to}: expected a SQLite file to copy from")),
        (
            ["import", file, "--database-url", file],
            2,
            "expected --database-url postgres://...: the database to copy into".to_owned(),
        ),
        (["check", "--salvage=x", "--database-url", &to], 2, "--salvage is for SQLite files".to_owned()),
        (
            ["backup", "x", "--database-url", &to],
            2,
            "backup is for SQLite: for Postgres use pg_dump".to_owned(),
        ),
        (
            ["cleanup", "--config=/dev/null", "--database-url", &to.replace("/story", "/no_story")],
            1,
            format!("the database {} cannot be used: the database cannot", to.replace("/story", "/no_story")),
        ),
    ] {
        let (found, out, err) = run(args);
        assert_eq!((found, out.as_str(), err.lines().count()), (code, "", 1), "{err}");
        assert!(err.starts_with(&format!("netmon-server: {expected}")), "{err}");
    }
}

/// Runs it with its stderr on a terminal, and gives its exit code and what the terminal got.
fn on_a_terminal(args: &[&str]) -> (i32, String) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let theirs = ptsname(&ours, Vec::new()).unwrap();
    let theirs = File::options().read(true).write(true).open(theirs.to_str().unwrap()).unwrap();
    let mut child = program(args).stdout(Stdio::null()).stderr(theirs).spawn().unwrap();
    let mut shown = Vec::new();
    // Once nobody holds the other end, reading fails.
    let _: std::io::Result<usize> = File::from(ours).read_to_end(&mut shown);
    (child.wait().unwrap().code().unwrap(), String::from_utf8(shown).unwrap())
}
