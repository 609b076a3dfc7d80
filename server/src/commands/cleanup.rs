//! `cleanup` and `dns-prune`: one sweep of retention, now.

use std::process::ExitCode;

use super::{DatabaseArgs, open, say};
use crate::{
    clock::{Clock as _, SystemClock},
    domain::Micros,
    store::{Retention, Step, Sweep},
};

pub(super) fn cleanup(database: DatabaseArgs) -> anyhow::Result<ExitCode> {
    sweep(database, Retention::sweep)
}

pub(super) fn dns_prune(database: DatabaseArgs) -> anyhow::Result<ExitCode> {
    sweep(database, Retention::dns_sweep)
}

fn sweep(database: DatabaseArgs, what: impl Fn(&Retention, Micros) -> Sweep) -> anyhow::Result<ExitCode> {
    let options = database.resolve()?;
    let store = open(&options)?;
    let reader = store.reader();
    let before = reader.size_bytes()?;
    let mut writer = store.writer()?;
    let mut sweep = what(&options.retention, SystemClock.now());
    let removed = loop {
        if let Step::Done { removed } = sweep.step(&mut writer)? {
            break removed;
        }
    };
    writer.checkpoint()?;
    say(&format!("{removed} rows removed; {before} bytes before, {} now", reader.size_bytes()?))?;
    Ok(ExitCode::SUCCESS)
}
