//! The monitor against a real kernel, each case in a network namespace of its own.
//!
//! Where namespaces are not permitted, or a program is missing, a case is reported as ignored, with the reason; with the variable
//! `NETMON_REQUIRE_LAB=1` it fails instead.

#[allow(dead_code, reason = "written for the transport's tests; a part of it serves here")]
mod batches;
#[allow(dead_code, reason = "written for the transport's tests; a part of it serves here")]
mod collector;
#[path = "support/mod.rs"]
mod support;

mod kernel {
    pub(crate) mod cases;
    pub(crate) mod dns_packets;
    pub(crate) mod dnslog;
    pub(crate) mod dnslog_lab;
    pub(crate) mod doctor;
    pub(crate) mod faults;
    pub(crate) mod groups;
    pub(crate) mod health;
    pub(crate) mod identity;
    pub(crate) mod nflog;
    pub(crate) mod posts;
    pub(crate) mod stops;
    pub(crate) mod watcher;
}

use std::{env, process::ExitCode};

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use kernel::{cases, dns_packets, dnslog, doctor, faults, groups, health, identity, nflog, posts, stops};

/// Set in the program that runs within the namespace.
const CASE: &str = "NETMON_KERNEL_CASE";

fn all_cases() -> impl Iterator<Item = &'static (&'static str, fn())> {
    let all = [
        cases::CASES,
        dns_packets::CASES,
        dnslog::CASES,
        doctor::CASES,
        faults::CASES,
        groups::CASES,
        health::CASES,
        identity::CASES,
        nflog::CASES,
        posts::CASES,
        stops::CASES,
    ];
    all.into_iter().flatten()
}

fn main() -> ExitCode {
    if let Ok(name) = env::var(CASE) {
        return run_here(&name);
    }
    let trials = all_cases().map(|(name, _)| Trial::ignorable_test(*name, || run_apart(name))).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn run_apart(name: &str) -> Result<Completion, Failed> {
    let missing = match support::run_in_namespace(CASE, name)? {
        Some(status) if status.success() => return Ok(Completion::Completed),
        Some(status) if status.code() == Some(support::MISSING) => "a program is missing; its name is above",
        Some(status) => return Err(format!("the case ended with {status}; its output is above").into()),
        None => "network namespaces are not permitted here",
    };
    if env::var("NETMON_REQUIRE_LAB").is_ok_and(|value| value == "1") {
        return Err(missing.into());
    }
    Ok(Completion::ignored_with(missing))
}

fn run_here(name: &str) -> ExitCode {
    let Some((_, case)) = all_cases().find(|(known, _)| *known == name) else {
        eprintln!("no case of the name {name}");
        return ExitCode::FAILURE;
    };
    support::set_up_namespace();
    case();
    ExitCode::SUCCESS
}
