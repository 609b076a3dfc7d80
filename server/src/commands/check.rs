//! `check`: what is wrong with a database.

use std::{path::Path, process::ExitCode};

use anyhow::Context as _;

use super::{DatabaseArgs, count, expect_existing, make_private, misuse, say, unusable};
use crate::store::{self, DatabaseUrl, Store};

pub(super) fn check(database: DatabaseArgs) -> anyhow::Result<ExitCode> {
    let options = database.resolve()?;
    expect_existing(&options)?;
    let store = Store::open_existing(&options.database_url).with_context(|| unusable(&options))?;
    let findings = store.check()?;
    for finding in &findings {
        say(finding)?;
    }
    if findings.is_empty() {
        say(&format!(
            "{}: no damage, nothing that belongs to nothing, all sums agree",
            options.database_url
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}

/// `check --salvage FILE`: exit code 1 if something could not be read.
pub(super) fn salvage(database: DatabaseArgs, to: &Path) -> anyhow::Result<ExitCode> {
    let options = database.resolve()?;
    let DatabaseUrl::Sqlite(damaged) = &options.database_url else {
        return misuse("--salvage is for SQLite files".to_owned());
    };
    if !damaged.exists() || to.exists() {
        return misuse(format!(
            "expected a damaged file that exists and a new one that does not: {}, {}",
            damaged.display(),
            to.display()
        ));
    }
    make_private(to)?;
    let salvaged = store::salvage(damaged, to)
        .with_context(|| format!("{}: nothing of it can be read", damaged.display()))?;
    let mut unreadable = 0;
    for table in salvaged {
        unreadable += table.unreadable;
        let lost =
            if table.unreadable > 0 { format!(", {} unreadable", table.unreadable) } else { String::new() };
        say(&format!("{}: {}{lost}", table.table, count(table.rows, "row")))?;
    }
    Ok(if unreadable == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
