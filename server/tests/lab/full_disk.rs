//! The server's disk fills up: nothing is acknowledged, the page says so, and when there is room again
//! everything is there, once.

use std::fs::{self, File};
use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use anyhow::ensure;

use crate::api;
use crate::lab::Lab;
use crate::outside::Site;
use crate::traffic::{Amount, Traffic};
use crate::wait;

/// Room for a database at work, and little more.
const DISK: &str = "size=24m";
const CONVERSATIONS: usize = 6;
const LIMIT: Duration = Duration::from_secs(20);
/// What the page's banner begins with when it is not hidden.
const BANNER: &str = "role=\"alert\">Nothing is being stored now: <span>the database cannot be written";

/// Issue: bad input, disk full on the server.
pub(crate) fn heals(site: &Site) -> anyhow::Result<()> {
    let data = site.directory.join("data");
    fs::create_dir_all(&data)?;
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", DISK, "tmpfs"]).arg(&data).status()?;
    ensure!(mounted.success(), "no file system of our own: {mounted}");
    let mut lab = Lab::start(site)?;
    Traffic::start(site.seed, Amount::Each(CONVERSATIONS)).finish()?;
    lab.agree()?;
    ensure!(api::status("/up")? == 200, "/up while all is well");

    let filler = data.join("filler");
    let mut file = File::create(&filler)?;
    // Down to the last byte: larger pieces would leave some room.
    for size in [1 << 20, 1 << 12, 1] {
        while file.write_all(&vec![1; size]).is_ok() {}
    }
    Traffic::start(site.seed + 1, Amount::Each(CONVERSATIONS)).finish()?;
    wait::until_ok("/up says that nothing is stored", LIMIT, || {
        ensure!(api::status("/up")? == 503, "/up is still well");
        Ok(())
    })?;
    let page = api::text("/")?;
    ensure!(page.contains(BANNER), "the page does not say so: {page:.900}");
    ensure!(lab.agreement_now().is_err(), "the server knows of flows that it cannot have stored");

    drop(file);
    fs::remove_file(&filler)?;
    let account = lab.agree()?;
    lab.agree_on_totals()?;
    ensure!(account.unseen + account.absent == 0, "flows were lost: {account:?}");
    ensure!(api::status("/up")? == 200, "/up after there was room again");
    println!("{} flows ended, all there once, after the disk was full", account.watched());
    lab.stop_agent()
}
