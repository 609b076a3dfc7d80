//! What Postgres did for a statement, and how many rows it looked at: from its log, where `auto_explain` tells it.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

use serde_json::Value;

use crate::million::Direct;
use crate::postgres::Cluster;
use netmon_server::store::DatabaseUrl;

/// Rows that one statement may look at. A window has 20,000; where most rows of its span of ids are wanted anyway, the
/// planner prefers to walk over all of them. The tables have many times as many.
const BOUND: f64 = 100_000.0;

/// Rows of the rollups of the longest span that is asked for: 50 devices of a day's minutes.
const ROLLUP_BOUND: f64 = 80_000.0;

/// The plans of one database, as they come.
pub(crate) struct Plans {
    log: File,
}

impl Plans {
    /// New connections to this database explain what they run from now on.
    pub(crate) fn of(cluster: &Cluster, database: &str) -> Self {
        let url = DatabaseUrl::Postgres(cluster.url(database));
        Direct::open(&url).execute(&format!(
            "ALTER DATABASE {database} SET session_preload_libraries = 'auto_explain';
             LOAD 'auto_explain';
             ALTER DATABASE {database} SET auto_explain.log_min_duration = 0;
             ALTER DATABASE {database} SET auto_explain.log_analyze = on;
             ALTER DATABASE {database} SET auto_explain.log_timing = off;
             ALTER DATABASE {database} SET auto_explain.log_format = 'json';"
        ));
        let mut log = File::open(cluster.log()).unwrap();
        log.seek(SeekFrom::End(0)).unwrap();
        Self { log }
    }

    /// Those since the last call.
    pub(crate) fn new_ones(&mut self) -> Vec<Value> {
        let mut log = Vec::new();
        self.log.read_to_end(&mut log).unwrap();
        let text = String::from_utf8_lossy(&log);
        let plans = text.split("plan:\n").skip(1);
        plans
            .map(|plan| serde_json::Deserializer::from_str(plan).into_iter().next().unwrap().unwrap())
            .collect()
    }
}

/// `Err` says how many rows were looked at, and how.
pub(crate) fn check(explained: &Value) -> Result<(), String> {
    let mut rows = 0.0;
    let mut is_rollup = false;
    visit(&explained["Plan"], &mut |node| {
        if node["Relation Name"].is_string() {
            let number = |field: &str| node[field].as_f64().unwrap_or(0.0);
            let each = number("Actual Rows")
                + number("Rows Removed by Filter")
                + number("Rows Removed by Index Recheck");
            rows += each * number("Actual Loops");
            let name = node["Relation Name"].as_str().unwrap_or_default();
            is_rollup |= ["_minutes", "_hours", "_days"].iter().any(|end| name.ends_with(end));
        }
    });
    if rows > if is_rollup { ROLLUP_BOUND } else { BOUND } {
        return Err(format!("{rows} rows: {}", serde_json::to_string(explained).unwrap()));
    }
    Ok(())
}

fn visit(node: &Value, seen: &mut impl FnMut(&Value)) {
    seen(node);
    for child in node["Plans"].as_array().into_iter().flatten() {
        visit(child, seen);
    }
}
