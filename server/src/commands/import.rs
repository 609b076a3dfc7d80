//! `import`: from SQLite to Postgres, with a bar on stderr.

use std::{
    io::{IsTerminal as _, Stderr, Write as _, stderr},
    process::ExitCode,
};

use anyhow::Context as _;

use super::{DatabaseArgs, count, misuse, open_or_make, say};
use crate::store::{DatabaseUrl, Imported};

const BAR: i64 = 30;

pub(super) fn import(database: DatabaseArgs, from: &DatabaseUrl) -> anyhow::Result<ExitCode> {
    let options = database.resolve()?;
    if !matches!(options.database_url, DatabaseUrl::Postgres(_)) {
        return misuse("expected --database-url postgres://...: the database to copy into".to_owned());
    }
    match from {
        DatabaseUrl::Postgres(_) => return misuse(format!("{from}: expected a SQLite file to copy from")),
        DatabaseUrl::Sqlite(path) if !path.exists() => {
            return misuse(format!("{}: there is no database", path.display()));
        }
        DatabaseUrl::Sqlite(_) => {}
    }
    let store = open_or_make(&options)?;
    let mut progress =
        Progress { stderr: stderr(), terminal: stderr().is_terminal(), in_line: false, rows: 0 };
    let result = store.import(from, |imported| progress.tell(imported));
    progress.end_line();
    result.with_context(|| format!("{from} was not imported"))?;
    say(&format!("{} copied, all sums agree", count(progress.rows, "row")))?;
    Ok(ExitCode::SUCCESS)
}

/// A bar for each table on a terminal; elsewhere a line once the table is there.
struct Progress {
    stderr: Stderr,
    terminal: bool,
    /// Whether the terminal's cursor is behind a bar that grows.
    in_line: bool,
    rows: u64,
}

impl Progress {
    fn tell(&mut self, Imported { table, rows, of }: &Imported<'_>) {
        let is_over = rows >= of;
        if is_over {
            self.rows += rows.unsigned_abs();
        }
        if self.terminal {
            let full = if is_over { BAR } else { rows * BAR / of };
            let bar = format!("{}{}", "#".repeat(full as usize), ".".repeat((BAR - full) as usize));
            self.print(&format!("\r{table:20} {bar} {rows} of {of}"));
            self.in_line = true;
            if is_over {
                self.end_line();
            }
        } else if is_over {
            self.print(&format!("{table}: {}\n", count(rows.unsigned_abs(), "row")));
        }
    }

    /// What comes next, an error for instance, begins at the left.
    fn end_line(&mut self) {
        if std::mem::take(&mut self.in_line) {
            self.print("\n");
        }
    }

    fn print(&mut self, text: &str) {
        // Nobody may be looking: the import goes on.
        let _: std::io::Result<()> = self.stderr.write_all(text.as_bytes());
    }
}
