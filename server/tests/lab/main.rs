//! The lab: the real agent and the real server, around a real kernel's connection tracking, in network
//! namespaces that the tests make for themselves. It needs no root.
//!
//! This program is started twice. Outside (`outside`) it is what `cargo test` runs: it finds out whether a
//! lab can be had here, and for each test starts itself again under `unshare`. Inside, it lays out the
//! networks (`namespaces`), makes traffic (`traffic`), keeps the kernel's own word on every flow that ends
//! (`ledger`, which shares no code with the agent), and asks the server for its account of the same
//! (`api`, `compare`).
//!
//! `NETMON_REQUIRE_LAB=1` makes it a failure where no lab can be had. `NETMON_LAB_SEED=n` repeats a run,
//! `NETMON_LAB_SEEDS=n` makes `n` runs with faults, `NETMON_LAB_KEEP=1` keeps logs and databases.

#![expect(clippy::print_stdout, reason = "what a test counted and measured is part of its outcome")]

mod api;
mod browser;
mod compare;
mod conversation;
mod ctnetlink;
mod daemon;
mod faults;
mod flows;
mod full_disk;
mod lab;
mod latency;
mod ledger;
mod local;
mod namespaces;
mod outside;
mod page;
mod proxy;
mod reuse;
mod traffic;
mod wait;

use std::process::ExitCode;

use outside::LabTest;

fn main() -> ExitCode {
    let mut tests = vec![
        LabTest::new("ledger::has_every_flow_of_the_traffic", ledger::has_every_flow),
        LabTest::new("flows::every_flow_once_to_the_byte", flows::every_flow_once),
        LabTest::new("full_disk::heals", full_disk::heals),
        LabTest::new("local::watches_its_own_machine", local::watches_its_own_machine),
        LabTest::new("local::serves_without_the_right_to_watch", local::serves_without_the_right_to_watch),
        LabTest::new("reuse::each_is_a_flow_of_its_own", reuse::each_is_a_flow_of_its_own),
        LabTest::new("latency::connect_to_event", latency::connect_to_event).alone(),
        LabTest::new("page::follows_a_connection", page::follows_a_connection).needs(&[browser::CHROMIUM]),
        LabTest::new("page::asks_for_a_login_when_its_own_ends", page::asks_for_a_login_when_its_own_ends)
            .needs(&[browser::CHROMIUM]),
        LabTest::new("page::fits_a_narrow_screen", page::fits_a_narrow_screen).needs(&[browser::CHROMIUM]),
    ];
    for run in 1..=outside::runs() {
        let name = format!("faults::counted_once_whatever_happens_{run:02}");
        tests.push(LabTest::new(name, faults::counted_once_whatever_happens));
    }
    outside::main(tests)
}
