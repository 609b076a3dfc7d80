//! What may be wrong with a database.

use diesel::prelude::*;
use diesel::sql_types::Text;

use super::connection::{Connection, Purpose};
use super::rollup_table::ROLLUPS;
use super::{DatabaseUrl, Store, StoreError, sweep};
use std::path::Path;

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    line: String,
}

/// Columns that name a row of another table without a foreign key.
const NAMED: [(&str, &str, &str); 12] = [
    ("dns_answers", "query_id", "dns_queries"),
    ("dns_answers", "domain_id", "domains"),
    ("dns_queries", "domain_id", "domains"),
    ("firewall_drops", "device_id", "devices"),
    ("firewall_drops", "host_id", "remote_hosts"),
    ("flows", "domain_id", "domains"),
    ("flows", "router_id", "routers"),
    ("flows", "device_id", "devices"),
    ("flows", "host_id", "remote_hosts"),
    ("open_flows", "router_id", "routers"),
    ("open_flows", "device_id", "devices"),
    ("open_flows", "host_id", "remote_hosts"),
];

impl Store {
    /// Everything that is wrong with the database, a line each: damage, rows that belong to nothing, sums that differ.
    /// Reads all of it.
    pub fn check(&self) -> Result<Vec<String>, StoreError> {
        let mut findings = Vec::new();
        let mut connection = Connection::open(&self.url, Purpose::Write)?;
        if let Connection::Sqlite(c) = &mut connection {
            let lines: Vec<Line> =
                diesel::sql_query("SELECT integrity_check AS line FROM pragma_integrity_check").load(c)?;
            findings.extend(lines.into_iter().map(|row| row.line).filter(|line| line != "ok"));
            let lines: Vec<Line> = diesel::sql_query(
                "SELECT 'a row of ' || \"table\" || ' names one of ' || parent || ' that is not there' AS line \
                 FROM pragma_foreign_key_check LIMIT 20",
            )
            .load(c)?;
            findings.extend(lines.into_iter().map(|row| row.line));
        }
        for (table, column, parent) in NAMED {
            findings.extend(orphans(&mut connection, table, column, parent)?);
        }
        for rollup in &ROLLUPS {
            findings.extend(orphans(&mut connection, rollup.table, "router_id", "routers")?);
            let parent = match rollup.keys[0] {
                "device_id" => "devices",
                "host_id" => "remote_hosts",
                _ => continue,
            };
            findings.extend(orphans(&mut connection, rollup.table, rollup.keys[0], parent)?);
        }
        let totals = self.reader().totals()?;
        for (name, sums) in totals.rollups() {
            if sums != totals.flows {
                findings
                    .push(format!("the sums of {name} are {sums:?}, those of the flows {:?}", totals.flows));
            }
        }
        Ok(findings)
    }

    /// Copies a SQLite database, one consistent state of it, into a file that does not exist yet or is empty. The copy has no empty
    /// pages. Commits go on meanwhile.
    pub fn backup_into(&self, path: &Path) -> Result<(), StoreError> {
        let Some(path) = path.to_str() else {
            return Err(StoreError::Unavailable(format!("{} is not UTF-8", path.display())));
        };
        // Not the reader's kind of connection: that one may write nothing at all, the copy included.
        match &mut Connection::open(&self.url, Purpose::Write)? {
            Connection::Sqlite(c) => {
                diesel::sql_query("VACUUM INTO $1").bind::<Text, _>(path).execute(c)?;
                Ok(())
            }
            Connection::Postgres(_) => {
                let url = DatabaseUrl::to_string(&self.url);
                Err(StoreError::Unavailable(format!("{url} is not a SQLite file")))
            }
        }
    }
}

/// Rows whose id in this column is that of no row of the other table.
fn orphans(
    connection: &mut Connection,
    table: &str,
    column: &str,
    parent: &str,
) -> Result<Option<String>, StoreError> {
    let query = format!(
        "SELECT COUNT(*) AS number FROM {table} WHERE {column} > 0 \
         AND NOT EXISTS (SELECT 1 FROM {parent} WHERE {parent}.id = {table}.{column})"
    );
    let count = sweep::number(connection, query)?.unwrap_or(0);
    let rows = if count == 1 { "1 row is" } else { &format!("{count} rows are") };
    Ok((count > 0).then(|| format!("{table}: {column} of {rows} not in {parent}")))
}
