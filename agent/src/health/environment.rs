//! What keeps this host from being watched well, one sentence each with the remedy.

use std::{fs, path::Path, time::Duration};

use rustix::fs::statfs;

use super::sample::Sample;
use crate::{config::DEFAULT_UCI, host};

/// Two clocks that tell different times by more than this were set, not skewed.
const JUMP: Duration = Duration::from_secs(2);
/// How long a jump is told of.
const TOLD: Duration = Duration::from_secs(3600);
/// The configuration of OpenWrt's firewall.
const UCI_FIREWALL: &str = "/etc/config/firewall";

/// File systems on raw flash, and OpenWrt's layer over them, by the magic numbers of linux/magic.h.
const FLASH: [(u64, &str); 3] = [(0x72b6, "jffs2"), (0x2405_1905, "ubifs"), (0x794c_7630, "overlayfs")];

/// What has to be remembered between two looks.
#[derive(Debug, Default)]
pub(super) struct Environment {
    previous: Option<Sample>,
    jumps: u64,
    last_jump: Option<(Sample, i64)>,
}

impl Environment {
    /// How often the clock was set.
    pub(super) fn jumps(&self) -> u64 {
        self.jumps
    }

    /// Looks around.
    pub(super) fn look(&mut self, sample: &Sample, spool_dir: &Path) -> Vec<String> {
        self.follow_clock(sample);
        let mut warnings = Vec::new();
        warnings.extend(nearly_full(sample.conntrack));
        warnings.extend(self.clock(sample));
        let kind = spool_dir.ancestors().find_map(|dir| statfs(dir).ok()).map(|found| found.f_type as u64);
        let in_memory = if Path::new(DEFAULT_UCI).exists() {
            "/tmp/netmon-agent/spool"
        } else {
            "/run/netmon-agent/spool"
        };
        warnings.extend(kind.and_then(|kind| on_flash(kind, in_memory)));
        warnings.extend(fs::read_to_string(UCI_FIREWALL).ok().and_then(|text| offloaded(&text)));
        warnings
    }

    fn follow_clock(&mut self, sample: &Sample) {
        if let Some(previous) = &self.previous {
            let ran = sample.at.saturating_duration_since(previous.at);
            let ran_us = i64::try_from(ran.as_micros()).unwrap_or(i64::MAX);
            let jump_us = sample.wall_us.saturating_sub(previous.wall_us).saturating_sub(ran_us);
            if u128::from(jump_us.unsigned_abs()) > JUMP.as_micros() {
                self.jumps += 1;
                self.last_jump = Some((sample.clone(), jump_us));
            }
        }
        self.previous = Some(sample.clone());
    }

    fn clock(&self, sample: &Sample) -> Option<String> {
        if sample.wall_us < host::NEVER_SET_US {
            return Some(
                "the clock was never set: times are wrong until NTP works, or date -s is used".to_owned(),
            );
        }
        let (at, jump_us) = self.last_jump.as_ref()?;
        if sample.at.saturating_duration_since(at.at) > TOLD {
            return None;
        }
        let (by, way) = (jump_us.unsigned_abs() / 1_000_000, if *jump_us > 0 { "forward" } else { "back" });
        Some(format!(
            "the clock was set {way} by {by} s ({} times since the start): times before it are wrong; keep NTP running",
            self.jumps
        ))
    }
}

fn nearly_full((count, most): (u64, u64)) -> Option<String> {
    (most > 0 && count.saturating_mul(10) >= most.saturating_mul(9)).then(|| {
        format!(
            "the conntrack table is nearly full ({count} of {most}): new connections will be refused; raise net.netfilter.nf_conntrack_max"
        )
    })
}

/// `in_memory` is where the agent's own service may write to memory.
fn on_flash(kind: u64, in_memory: &str) -> Option<String> {
    let (_, name) = FLASH.iter().find(|(magic, _)| *magic == kind)?;
    Some(format!(
        "the spool is on flash memory ({name}), which wears out: set spool_dir to a directory in memory, {in_memory}"
    ))
}

/// What `option flow_offloading '1'` does to our figures.
fn offloaded(uci: &str) -> Option<String> {
    let on = |name: &str| {
        uci.lines().any(|line| {
            let mut words = line.split_whitespace().map(|word| word.trim_matches(['\'', '"']));
            words.next() == Some("option")
                && words.next() == Some(name)
                && matches!(words.next(), Some("1" | "on" | "true" | "yes" | "enabled"))
        })
    };
    if on("flow_offloading_hw") && on("flow_offloading") {
        return Some("hardware flow offload is on: most drivers do not count what they forward, so bytes are missing; turn flow_offloading_hw off to count all".to_owned());
    }
    on("flow_offloading").then(|| {
        "software flow offload is on: drops and DNS packets of offloaded connections are not seen, and counters lag; turn flow_offloading off to see all".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample_at(base: &Sample, seconds: u64, wall_us: i64) -> Sample {
        Sample { at: base.at + Duration::from_secs(seconds), wall_us, ..base.clone() }
    }

    #[test]
    fn a_clock_that_is_set_is_told_of_for_an_hour() {
        let now = 1_790_000_000_000_000;
        let base = Sample { wall_us: 5_000_000, ..Sample::read(Path::new("/")).expect("a sample") };
        let mut environment = Environment::default();
        let mut look = |seconds: u64, wall_us| {
            let sample = sample_at(&base, seconds, wall_us);
            environment.follow_clock(&sample);
            (environment.clock(&sample), environment.jumps())
        };
        let (warning, jumps) = look(0, 5_000_000);
        assert!(warning.expect("1970").starts_with("the clock was never set") && jumps == 0);
        let (warning, jumps) = look(30, now);
        assert!(
            warning.expect("set").starts_with("the clock was set forward by 1789999965 s (1 times")
                && jumps == 1
        );
        assert!(look(60, now + 30_500_000).0.is_some(), "skewed a little, and still told of");
        let (warning, jumps) = look(90, now);
        assert!(warning.expect("set").contains("back by 60 s (2 times") && jumps == 2);
        assert_eq!(look(90 + 3601, now + 3_601_000_000), (None, 2));
    }

    #[test]
    fn offload_is_recognised_as_uci_writes_it() {
        let check = |text: &str| offloaded(text).map(|warning| warning[..8].to_owned());
        assert_eq!(check("config defaults\n\toption flow_offloading '1'\n").as_deref(), Some("software"));
        let both = "\toption flow_offloading '1'\n\toption flow_offloading_hw \"1\"\n";
        assert_eq!(check(both).as_deref(), Some("hardware"));
        assert_eq!(check("\toption flow_offloading '0'\n\toption flow_offloading_hw '1'\n"), None);
        assert_eq!(check("# option flow_offloading '1'\n"), None);
    }

    #[test]
    fn a_full_table_and_flash_are_told_of() {
        assert!(nearly_full((90, 100)).is_some() && nearly_full((89, 100)).is_none());
        assert_eq!(nearly_full((0, 0)), None);
        let warning = on_flash(0x2405_1905, "/run/x").expect("flash");
        assert!(warning.contains("ubifs") && warning.ends_with("/run/x"), "{warning}");
        assert_eq!(on_flash(0x0102_1994, ""), None, "tmpfs");
    }
}
