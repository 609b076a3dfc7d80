//! For programs that need a kernel of their own: namespaces, made-up conntrack entries, and a second pair
//! of ears.
#![allow(dead_code, reason = "each program that includes this uses a part of it")]

pub(crate) mod dns;
pub(crate) mod dnsmasq;
pub(crate) mod dump;
pub(crate) mod inject;
pub(crate) mod ledger;
pub(crate) mod network;
pub(crate) mod packets;

use std::{
    env, io,
    process::{Command, ExitStatus, Stdio},
};

/// Runs this very program again with `variable=value` set, in a user and network namespace of its own
/// (as root where user namespaces are forbidden: in a network namespace). `None`: neither is permitted.
pub(crate) fn run_in_namespace(variable: &str, value: &str) -> io::Result<Option<ExitStatus>> {
    let Some(flags) = permitted_flags() else { return Ok(None) };
    let program = env::current_exe()?;
    Command::new("unshare").arg(flags).arg("--").arg(program).env(variable, value).status().map(Some)
}

fn permitted_flags() -> Option<&'static str> {
    ["-rn", "-n"].into_iter().find(|flags| {
        let probe = Command::new("unshare")
            .args([flags, "--", "true"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        probe.is_ok_and(|status| status.success())
    })
}

/// How a case ends that needs a program which is not installed.
pub(crate) const MISSING: i32 = 77;

/// To be called at the beginning of a case that needs more than a kernel, ip, nft and ping.
pub(crate) fn needs(programs: &[&str]) {
    for program in programs {
        let probe = Command::new(program)
            .arg("--help")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if probe.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            eprintln!("{program} is not installed");
            std::process::exit(MISSING);
        }
    }
}

/// Runs a command that has to work, given as one line.
pub(crate) fn must(line: &str) {
    let mut words = line.split_whitespace();
    let program = words.next().expect("a command");
    let output = Command::new(program).args(words).output();
    let output = output.unwrap_or_else(|error| panic!("{line}: {error}"));
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Brings loopback up and makes the kernel track connections.
pub(crate) fn set_up_namespace() {
    must("ip link set lo up");
    must("nft add table inet watch");
    must("nft add chain inet watch output { type filter hook output priority 0 ; }");
    must("nft add rule inet watch output ct state new,established counter");
}
