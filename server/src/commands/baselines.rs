//! `recompute-baselines`: what is usual for each device, of the last 24 hours.

use std::process::ExitCode;

use super::{DatabaseArgs, count, open, say};
use crate::clock::{Clock as _, SystemClock};

pub(super) fn recompute(database: DatabaseArgs) -> anyhow::Result<ExitCode> {
    let options = database.resolve()?;
    let devices = open(&options)?.writer()?.recompute_baselines(SystemClock.now())?;
    say(&format!("{} with a baseline of the last 24 hours", count(devices as u64, "device")))?;
    Ok(ExitCode::SUCCESS)
}
