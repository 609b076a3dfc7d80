//! `check`: what is wrong with a database.

use std::process::ExitCode;

use super::{DatabaseArgs, open, say};

pub(super) fn check(database: DatabaseArgs) -> anyhow::Result<ExitCode> {
    let options = database.resolve()?;
    let findings = open(&options)?.check()?;
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
