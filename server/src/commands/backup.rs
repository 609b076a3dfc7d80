//! `backup`: a copy of the SQLite database, one consistent state, while a server writes on. It has the database's schema,
//! whichever program's that is: a copy is wanted most before an upgrade.

use std::{ffi::OsString, fs::File, path::Path, process::ExitCode};

use anyhow::Context as _;

use super::{DatabaseArgs, expect_existing, make_private, misuse, say};
use crate::store::{DatabaseUrl, Store};

pub(super) fn backup(database: DatabaseArgs, to: &Path) -> anyhow::Result<ExitCode> {
    let options = database.resolve()?;
    if matches!(options.database_url, DatabaseUrl::Postgres(_)) {
        return misuse(
            "backup is for SQLite: for Postgres use pg_dump --format=custom, and pg_restore to get it back"
                .to_owned(),
        );
    }
    if to.exists() {
        return misuse(format!("{}: expected a file that does not exist", to.display()));
    }
    // Under another name until it is whole: what has the right name can be trusted.
    let mut part = OsString::from(to);
    part.push(".part");
    let part = Path::new(&part);
    if part.exists() {
        std::fs::remove_file(part).with_context(|| format!("{}: cannot be removed", part.display()))?;
    }
    expect_existing(&options)?;
    let store = Store::as_it_is(&options.database_url);
    make_private(part)?;
    store.backup_into(part).with_context(|| format!("{}: cannot be written", part.display()))?;
    File::open(part)?.sync_all()?;
    std::fs::rename(part, to).with_context(|| format!("{}: cannot be named so", to.display()))?;
    say(&format!("{}: {} bytes", to.display(), std::fs::metadata(to)?.len()))?;
    Ok(ExitCode::SUCCESS)
}
