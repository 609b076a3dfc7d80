//! `import`: from SQLite to Postgres, with a bar on stderr.

use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
};

use anyhow::Context as _;

use super::{DatabaseArgs, open_or_make, say};
use crate::store::{DatabaseUrl, Imported};

const BAR: i64 = 30;

pub(super) fn import(database: DatabaseArgs, from: &DatabaseUrl) -> anyhow::Result<ExitCode> {
    let options = database.resolve()?;
    if !matches!(options.database_url, DatabaseUrl::Postgres(_)) {
        anyhow::bail!("expected --database-url postgres://...: the database to copy into");
    }
    if let DatabaseUrl::Sqlite(path) = from
        && !path.exists()
    {
        anyhow::bail!("{}: there is no database", path.display());
    }
    let store = open_or_make(&options)?;
    let mut stderr = std::io::stderr();
    let terminal = stderr.is_terminal();
    let mut rows = 0;
    store
        .import(from, |Imported { table, rows: done, of }| {
            let over = done >= of;
            if over {
                rows += done;
            }
            let full = (done * BAR / of.max(&1)).clamp(0, BAR) as usize;
            let bar = format!("{}{}", "#".repeat(full), ".".repeat(BAR as usize - full));
            // Nobody may be looking: the import goes on.
            let _: std::io::Result<()> = match (terminal, over) {
                (true, false) => write!(stderr, "\r{table:20} {bar} {done} of {of}"),
                (true, true) => writeln!(stderr, "\r{table:20} {bar} {done} of {of}"),
                (false, true) => writeln!(stderr, "{table}: {done} rows"),
                (false, false) => Ok(()),
            };
        })
        .with_context(|| format!("{from} was not imported"))?;
    say(&format!("{rows} rows copied, all sums agree"))?;
    Ok(ExitCode::SUCCESS)
}
