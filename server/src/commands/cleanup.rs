//! `cleanup` and `dns-prune`: one sweep of retention, now.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use super::{DatabaseArgs, count, open, say};
use crate::{
    clock::{Clock as _, SystemClock},
    domain::Micros,
    store::{Retention, Step, Sweep, Swept},
};

/// After each step a server that writes beside has so long at least. In SQLite it finds the database free only in between.
const PAUSE_MIN: Duration = Duration::from_millis(2);

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
    let Swept { removed, beyond } = loop {
        let began = Instant::now();
        if let Step::Done(swept) = sweep.step(&mut writer)? {
            break swept;
        }
        std::thread::sleep(began.elapsed().max(PAUSE_MIN));
    };
    writer.checkpoint()?;
    let removed = count(removed, "row");
    say(&format!("{removed} removed; the database had {before} bytes and has {} now", reader.size_bytes()?))?;
    if beyond > 0 {
        say(&format!("{}: {beyond} bytes too many", Swept::BEYOND))?;
    }
    Ok(ExitCode::SUCCESS)
}
