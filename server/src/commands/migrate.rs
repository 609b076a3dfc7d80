//! `migrate`: the schema of a database, without a server.

use std::{path::Path, process::ExitCode};

use anyhow::Context as _;

use super::{DatabaseArgs, misuse, say, unusable};
use crate::store::{DatabaseUrl, Migrated, Store};

pub(super) fn migrate(database: DatabaseArgs) -> anyhow::Result<ExitCode> {
    let options = database.resolve()?;
    let url = &options.database_url;
    // Of a directory that is not there SQLite says that it is unable to open the file.
    if let DatabaseUrl::Sqlite(path) = url
        && let Some(directory) = path.parent()
        && directory != Path::new("")
        && !directory.is_dir()
    {
        return misuse(format!(
            "{}: there is no such directory; make it, or name another with --data or --database-url",
            directory.display()
        ));
    }
    let Migrated { from, to } = Store::migrate(url).with_context(|| unusable(&options))?;
    say(&match from {
        None => format!("{url}: made, with schema {to}"),
        Some(from) if from == to => format!("{url}: has schema {to} already"),
        Some(from) => format!("{url}: brought from schema {from} to {to}"),
    })?;
    Ok(ExitCode::SUCCESS)
}
