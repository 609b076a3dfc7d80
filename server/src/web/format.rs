//! Figures, times and names as people read them.

use netmon_proto::STATUS_BITS;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    domain::{FlowRecord, Micros},
    enrich,
};

/// nf_conntrack's TCP states, by `netmon.v1.TcpState`.
const TCP_STATES: [&str; 11] = [
    "",
    "NONE",
    "SYN_SENT",
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "TIME_WAIT",
    "CLOSE",
    "SYN_SENT2",
];

const SEEN_REPLY: u32 = 1 << 1;
const ASSURED: u32 = 1 << 2;

/// RFC 3339 in UTC with microseconds.
pub(super) fn rfc3339(time: Micros) -> String {
    let parts = OffsetDateTime::from_unix_timestamp_nanos(i128::from(time) * 1000);
    let Ok(at) = parts else { return String::new() };
    let whole = at.replace_nanosecond(0).ok().and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default();
    format!("{}.{:06}Z", whole.trim_end_matches('Z'), time.rem_euclid(1_000_000))
}

/// "2025-11-22 08:26:40 UTC", for viewers whose zone is not known.
pub(super) fn utc(time: Micros) -> String {
    let text = rfc3339(time);
    let whole = text.split('.').next().unwrap_or_default();
    if whole.is_empty() { text } else { format!("{} UTC", whole.replace('T', " ")) }
}

/// The time of an RFC 3339 text.
pub(super) fn parse_rfc3339(text: &str) -> Option<Micros> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    Micros::try_from(time.unix_timestamp_nanos().div_euclid(1000)).ok()
}

/// "0 B", "999 B", "1.2 kB", "34 MB": decimal units, two figures at least.
pub(super) fn bytes(count: i64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if value < 9.95 { format!("{value:.1} {}", UNITS[unit]) } else { format!("{value:.0} {}", UNITS[unit]) }
}

/// Bytes per second; nothing for nothing.
pub(super) fn rate(per_second: f64) -> String {
    if per_second < 1.0 { String::new() } else { format!("{}/s", bytes(per_second as i64)) }
}

/// "5 s", "3 min", "2 h 10 min", "4 d 3 h".
pub(super) fn duration(us: i64) -> String {
    let seconds = (us / 1_000_000).max(0);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// The name of an IP protocol: the IANA keyword in lower case, or the number.
pub(super) fn protocol(number: u8) -> String {
    match number {
        1 => "icmp",
        2 => "igmp",
        4 => "ipencap",
        6 => "tcp",
        17 => "udp",
        33 => "dccp",
        41 => "ipv6",
        47 => "gre",
        50 => "esp",
        51 => "ah",
        58 => "ipv6-icmp",
        132 => "sctp",
        136 => "udplite",
        other => return other.to_string(),
    }
    .to_owned()
}

/// "443 https": a port with its well-known name, if it has one.
pub(super) fn port(protocol: u8, port: u16) -> String {
    enrich::service(protocol, port).map_or_else(|| port.to_string(), |name| format!("{port} {name}"))
}

/// A TCP flow's state, or what is known of another's.
pub(super) fn state(flow: &FlowRecord) -> &'static str {
    match TCP_STATES.get(usize::from(flow.tcp_state)) {
        Some(&name) if !name.is_empty() => name,
        _ if flow.status & ASSURED != 0 => "ASSURED",
        _ if flow.status & SEEN_REPLY != 0 => "REPLIED",
        _ => "UNREPLIED",
    }
}

/// The kernel's status bits by name, joined with `|`.
pub(super) fn flags(status: u32) -> String {
    let set = STATUS_BITS.iter().enumerate().filter(|(bit, _)| status & (1 << bit) != 0);
    set.map(|(_, name)| *name).collect::<Vec<_>>().join("|")
}

/// The name of `netmon.v1.GapCause` without its prefix, in lower case.
pub(super) fn gap_cause(cause: i16) -> String {
    netmon_proto::v1::GapCause::try_from(i32::from(cause)).map_or_else(
        |_| cause.to_string(),
        |known| known.as_str_name().trim_start_matches("GAP_CAUSE_").to_ascii_lowercase(),
    )
}

/// A hardware address as people write it.
pub(super) fn mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_keep_two_figures_and_round_over_the_unit() {
        for (count, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (1250, "1.2 kB"),
            (9_949, "9.9 kB"),
            (9_960, "10 kB"),
            (999_499, "999 kB"),
            (999_500, "1.0 MB"),
            (20_000_000_000, "20 GB"),
            (i64::MAX, "9.2 EB"),
        ] {
            assert_eq!(bytes(count), expected, "{count}");
        }
    }

    #[test]
    fn times_are_utc_with_microseconds() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(rfc3339(1_763_800_000_000_001), "2025-11-22T08:26:40.000001Z");
        assert_eq!(parse_rfc3339("2025-11-22T08:26:40.000001Z"), Some(1_763_800_000_000_001));
        assert_eq!(parse_rfc3339("2025-11-22"), None);
        assert_eq!(utc(1_763_800_000_999_999), "2025-11-22 08:26:40 UTC");
    }

    #[test]
    fn durations_name_their_two_largest_units() {
        assert_eq!(duration(59_999_999), "59 s");
        assert_eq!(duration(3_599_000_000), "59 min");
        assert_eq!(duration(7_800_000_000), "2 h 10 min");
        assert_eq!(duration(356_400_000_000), "4 d 3 h");
        assert_eq!(duration(-5), "0 s");
    }

    #[test]
    fn flags_are_named_by_bit() {
        assert_eq!(flags(0b1110), "SEEN_REPLY|ASSURED|CONFIRMED");
        assert_eq!(flags(0), "");
        assert_eq!(flags(1 << 15), "HW_OFFLOAD");
    }
}
