//! Facts about this host and this process, read from the kernel's files. What cannot be read is left empty.

use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use netmon_proto::v1::HostFacts;

/// Clock ticks a second in `/proc/PID/stat` (USER_HZ, the same on every architecture we run on; proc(5)).
const TICKS_PER_SECOND: u64 = 100;

/// A clock before this was never set: 2024-01-01.
pub const NEVER_SET_US: i64 = 1_704_067_200_000_000;

/// How many connections the kernel tracks in this network namespace, and how many it can.
pub fn conntrack_fill() -> Option<(u64, u64)> {
    let number = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/net/netfilter/nf_conntrack_{name}"));
        text.ok()?.trim().parse::<u64>().ok()
    };
    Some((number("count")?, number("max")?))
}

/// The wall clock in microseconds since 1970.
pub fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// What this host is, for `Hello`.
pub fn facts() -> HostFacts {
    let kernel = |name: &str| first_line(&format!("/proc/sys/kernel/{name}"));
    let release =
        fs::read_to_string("/etc/os-release").or_else(|_| fs::read_to_string("/usr/lib/os-release"));
    // Kernels before 6.1 have no such file; the target's name is the same for most.
    let architecture = Some(kernel("arch")).filter(|arch| !arch.is_empty());
    HostFacts {
        hostname: kernel("hostname"),
        kernel: format!("{} {}", kernel("ostype"), kernel("osrelease")).trim().to_owned(),
        os: cut(pretty_name(&release.unwrap_or_default())),
        architecture: architecture.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        boot_id: kernel("random/boot_id"),
    }
}

/// Resident memory of this process in bytes.
pub fn memory_bytes() -> u64 {
    resident_bytes(&fs::read_to_string("/proc/self/status").unwrap_or_default()).unwrap_or(0)
}

/// CPU time of this process, all threads, in milliseconds.
pub fn cpu_ms() -> u64 {
    cpu_ticks(&fs::read_to_string("/proc/self/stat").unwrap_or_default()).unwrap_or(0) * 1000
        / TICKS_PER_SECOND
}

fn first_line(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    cut(text.lines().next().unwrap_or_default().trim().to_owned())
}

/// The protocol's limit for a fact.
fn cut(text: String) -> String {
    text.chars()
        .scan(0, |len, c| Some((*len += c.len_utf8(), (*len <= 100).then_some(c)).1))
        .flatten()
        .collect()
}

/// PRETTY_NAME of os-release(5), without its quotes.
fn pretty_name(release: &str) -> String {
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or_default().trim().trim_matches(['"', '\'']).to_owned()
}

/// VmRSS of `/proc/PID/status`, which is in kB.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Fields 14 and 15 of `/proc/PID/stat`, counted behind the command's name, which may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(ticks()? + ticks()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_understood() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 9 8 7 6 123 45 0 0 20 0 1 0 5 6 7";
        assert_eq!(cpu_ticks(stat), Some(168));
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t    5120 kB\n"), Some(5_242_880));
        assert_eq!(pretty_name("ID=x\nPRETTY_NAME=\"OpenWrt 24.10\"\n"), "OpenWrt 24.10");
        assert_eq!((cpu_ticks(""), resident_bytes(""), pretty_name("")), (None, None, String::new()));
        assert_eq!(cut("ä".repeat(80)).len(), 100);
    }

    #[test]
    fn this_host_has_facts() {
        let facts = facts();
        assert!(facts.kernel.starts_with("Linux ") && !facts.architecture.is_empty(), "{facts:?}");
        assert!(memory_bytes() > 100_000);
    }
}
