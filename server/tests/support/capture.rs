//! What the original agent posted on a day, as if that had been just now: nothing in it is old enough to be swept or to be
//! taken for gone while a test runs.

use std::sync::LazyLock;

use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

const CAPTURE: &str = include_str!("../../testdata/http_batches.jsonl");

/// How many events it has.
pub(crate) const EVENTS: u64 = 1_126;

/// How many rows must come of it: of flows, drops and counts of questions one for each event, of hashes of names in
/// what it tells of hosts a raw event each, and of each batch its digest.
pub(crate) const ROWS: [(&str, usize); 6] = [
    ("flows", 9),
    ("open_flows", 130),
    ("firewall_drops", 52),
    ("dns_buckets", 803),
    ("http_batches", 39),
    ("raw_events", 120),
];

/// The bodies, in the order in which they came.
pub(crate) static BATCHES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let times = || CAPTURE.split('"').filter_map(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
    let last = times().filter(|time| time.year() < 2100).max().unwrap();
    // Whole minutes: counts of questions begin with one.
    let later = Duration::minutes((OffsetDateTime::now_utc() - last).whole_minutes() - 1);
    let moved = |text: &str| match OffsetDateTime::parse(text, &Rfc3339) {
        Ok(time) => (time + later).format(&Rfc3339).unwrap(),
        Err(_) => text.to_owned(),
    };
    CAPTURE.lines().map(|body| body.split('"').map(moved).collect::<Vec<_>>().join("\"")).collect()
});

/// The same batch as the agent posts it again: the same events, another `sent_at`.
pub(crate) fn again(body: &str) -> String {
    let (head, rest) = body.split_once("\"sent_at\":\"").unwrap();
    let (_, rest) = rest.split_once('"').unwrap();
    format!("{head}\"sent_at\":\"2026-11-23T00:00:00Z\"{rest}")
}

/// Whether a row of a table is there once a batch is answered. Minutes go into their hours and days later, and the mark in
/// the settings with them.
pub(crate) fn is_there_at_once(row: &str) -> bool {
    let (table, _) = row.split_once(": ").unwrap();
    !table.ends_with("_hours") && !table.ends_with("_days") && table != "settings"
}
