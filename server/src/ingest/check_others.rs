//! The checks of everything that is not a flow.

use std::{net::IpAddr, ops::RangeInclusive};

use netmon_proto::v1;

use super::validate::{MAX_DETAIL_BYTES, MAX_WARNINGS, Refusal, address, counter, narrow};
use crate::domain::{
    DnsAnswer, DnsBucket, DnsData, DnsResponse, FirewallDrop, Health, Hook, Identity, InterfaceHealth, Mac,
    Micros,
};

/// RFC 1035, 2.3.4, in its text form and without the final dot.
const MAX_NAME_BYTES: usize = 253;
/// NFLOG's prefix without its NUL.
const MAX_PREFIX_BYTES: usize = 127;
const MAX_INTERFACE_BYTES: usize = 64;
const MAX_TEXT_BYTES: usize = 1024;
const MAX_ANSWERS: usize = 64;
const MAX_ADDRESSES: usize = 64;
const MAX_INTERFACES: usize = 64;
const MAX_HASH_BYTES: usize = 64;
/// RFC 2181, 8.
const MAX_TTL_S: u32 = i32::MAX as u32;
/// RFC 6891, 6.1.3: twelve bits.
const MAX_RCODE: u64 = 4095;

pub(super) fn check_drop(drop: &v1::FirewallDrop, clamped: &mut u32) -> Result<FirewallDrop, Refusal> {
    let (src, dst) =
        (address("firewall_drop.src_ip", &drop.src_ip)?, address("firewall_drop.dst_ip", &drop.dst_ip)?);
    if src.is_ipv4() != dst.is_ipv4() {
        return Err(Refusal::MixedFamilies);
    }
    let protocol = narrow("firewall_drop.protocol", drop.protocol)?;
    let hook = Hook::named(&drop.hook);
    if hook == Hook::Unknown && !drop.hook.is_empty() {
        *clamped += 1;
    }
    let tcp_flags = narrow("firewall_drop.tcp_flags", drop.tcp_flags)?;
    let icmp = (
        narrow("firewall_drop.icmp_type", drop.icmp_type)?,
        narrow("firewall_drop.icmp_code", drop.icmp_code)?,
    );
    Ok(FirewallDrop {
        hook,
        prefix: cut(drop.prefix.trim(), MAX_PREFIX_BYTES, clamped),
        nflog_group: narrow("firewall_drop.nflog_group", drop.nflog_group)?,
        in_interface: cut(&drop.in_interface, MAX_INTERFACE_BYTES, clamped),
        out_interface: cut(&drop.out_interface, MAX_INTERFACE_BYTES, clamped),
        src,
        dst,
        src_port: narrow("firewall_drop.src_port", drop.src_port)?,
        dst_port: narrow("firewall_drop.dst_port", drop.dst_port)?,
        protocol,
        tcp_flags: (protocol == 6).then_some(tcp_flags),
        icmp: matches!(protocol, 1 | 58).then_some(icmp),
        src_mac: mac("firewall_drop.src_mac", &drop.src_mac)?,
        length: drop.length,
        left_out: counter("firewall_drop.left_out", drop.left_out)?,
    })
}

pub(super) fn check_dns(response: v1::DnsResponse, clamped: &mut u32) -> Result<DnsResponse, Refusal> {
    if u64::from(response.rcode) > MAX_RCODE {
        return Err(Refusal::TooLarge {
            field: "dns_response.rcode",
            value: response.rcode.into(),
            limit: MAX_RCODE,
        });
    }
    let resolver = match response.resolver_ip.is_empty() {
        true => None,
        false => Some(address("dns_response.resolver_ip", &response.resolver_ip)?),
    };
    *clamped += u32::from(response.answers.len() > MAX_ANSWERS);
    Ok(DnsResponse {
        client: address("dns_response.client_ip", &response.client_ip)?,
        name: domain("dns_response.name", &response.name, clamped)?,
        kind: narrow("dns_response.type", response.r#type)?,
        rcode: narrow("dns_response.rcode", response.rcode)?,
        answers: response
            .answers
            .iter()
            .take(MAX_ANSWERS)
            .map(|answer| check_answer(answer, clamped))
            .collect::<Result<_, _>>()?,
        resolver,
        cached: response.cached,
    })
}

fn check_answer(answer: &v1::DnsAnswer, clamped: &mut u32) -> Result<DnsAnswer, Refusal> {
    const CNAME: u16 = 5;
    let kind = narrow("dns_response.answers.type", answer.r#type)?;
    let data = if answer.address.is_empty() {
        DnsData::Text(match kind {
            CNAME => domain("dns_response.answers.text", &answer.text, clamped)?,
            _ => cut(&answer.text, MAX_TEXT_BYTES, clamped),
        })
    } else {
        DnsData::Address(address("dns_response.answers.address", &answer.address)?)
    };
    Ok(DnsAnswer {
        name: domain("dns_response.answers.name", &answer.name, clamped)?,
        kind,
        data,
        ttl_s: answer.ttl_s.map(|ttl| ttl.min(MAX_TTL_S)),
    })
}

pub(super) fn check_bucket(
    bucket: &v1::DnsBucket,
    times: RangeInclusive<Micros>,
    clamped: &mut u32,
) -> Result<DnsBucket, Refusal> {
    let mut start = bucket.bucket_start_us;
    if !times.contains(&start) {
        start = *times.end();
        *clamped += 1;
    }
    Ok(DnsBucket {
        start,
        client: address("dns_bucket.client_ip", &bucket.client_ip)?,
        kind: cut(&bucket.r#type, MAX_HASH_BYTES, clamped),
        name_hash: cut(&bucket.name_hash, MAX_HASH_BYTES, clamped),
        count: counter("dns_bucket.count", bucket.count)?,
        nxdomain: counter("dns_bucket.nxdomain", bucket.nxdomain)?,
    })
}

pub(super) fn check_identity(
    identity: &v1::HostIdentity,
    times: RangeInclusive<Micros>,
    clamped: &mut u32,
) -> Result<Identity, Refusal> {
    let mut last_seen = identity.last_seen_us;
    if !times.contains(&last_seen) {
        *clamped += u32::from(last_seen != 0);
        last_seen = *times.end();
    }
    *clamped += u32::from(identity.addresses.len() > MAX_ADDRESSES);
    let mut addresses = Vec::new();
    for bytes in identity.addresses.iter().take(MAX_ADDRESSES) {
        let address = address("host_identity.addresses", bytes)?;
        if is_device_address(address) && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(Identity {
        mac: mac("host_identity.mac", &identity.mac)?,
        addresses,
        host_name: cut(&identity.host_name, MAX_NAME_BYTES, clamped),
        vendor_class: cut(&identity.vendor_class, MAX_DETAIL_BYTES, clamped),
        lease_until: (identity.lease_until_us > 0).then_some(identity.lease_until_us),
        interface: cut(&identity.interface, MAX_INTERFACE_BYTES, clamped),
        last_seen,
    })
}

pub(super) fn check_health(health: &v1::RouterHealth, clamped: &mut u32) -> Result<Health, Refusal> {
    *clamped +=
        u32::from(health.interfaces.len() > MAX_INTERFACES) + u32::from(health.warnings.len() > MAX_WARNINGS);
    let figure = |field, value| counter(field, value);
    Ok(Health {
        interval_ms: health.interval_ms.into(),
        load_milli: [health.load1_milli, health.load5_milli, health.load15_milli].map(i64::from),
        memory_total_bytes: figure("router_health.memory_total_bytes", health.memory_total_bytes)?,
        memory_available_bytes: figure(
            "router_health.memory_available_bytes",
            health.memory_available_bytes,
        )?,
        swap_total_bytes: figure("router_health.swap_total_bytes", health.swap_total_bytes)?,
        swap_free_bytes: figure("router_health.swap_free_bytes", health.swap_free_bytes)?,
        disk_total_bytes: figure("router_health.disk_total_bytes", health.disk_total_bytes)?,
        disk_free_bytes: figure("router_health.disk_free_bytes", health.disk_free_bytes)?,
        disk_read_bytes: figure("router_health.disk_read_bytes", health.disk_read_bytes)?,
        disk_written_bytes: figure("router_health.disk_written_bytes", health.disk_written_bytes)?,
        uptime_s: figure("router_health.uptime_s", health.uptime_s)?,
        conntrack_count: figure("router_health.conntrack_count", health.conntrack_count)?,
        conntrack_max: figure("router_health.conntrack_max", health.conntrack_max)?,
        temperature_milli_c: health.temperature_milli_c,
        interfaces: health
            .interfaces
            .iter()
            .take(MAX_INTERFACES)
            .map(|interface| check_interface(interface, clamped))
            .collect::<Result<_, _>>()?,
        warnings: health
            .warnings
            .iter()
            .take(MAX_WARNINGS)
            .map(|warning| cut(warning, MAX_DETAIL_BYTES, clamped))
            .collect(),
    })
}

fn check_interface(interface: &v1::InterfaceHealth, clamped: &mut u32) -> Result<InterfaceHealth, Refusal> {
    let pair = |field, rx, tx| Ok([counter(field, rx)?, counter(field, tx)?]);
    Ok(InterfaceHealth {
        name: cut(&interface.name, MAX_INTERFACE_BYTES, clamped),
        bytes: pair("router_health.interfaces.bytes", interface.rx_bytes, interface.tx_bytes)?,
        packets: pair("router_health.interfaces.packets", interface.rx_packets, interface.tx_packets)?,
        errors: pair("router_health.interfaces.errors", interface.rx_errors, interface.tx_errors)?,
        dropped: pair("router_health.interfaces.dropped", interface.rx_dropped, interface.tx_dropped)?,
        up: interface.up,
    })
}

/// Whether an address can be a device's: not this host's own, not a group's, not "any".
pub(crate) fn is_device_address(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(address.is_loopback() || address.is_multicast() || address.is_unspecified() || broadcast)
}

fn mac(field: &'static str, bytes: &[u8]) -> Result<Option<Mac>, Refusal> {
    match bytes {
        [] => Ok(None),
        _ => Mac::try_from(bytes).map(Some).map_err(|_| Refusal::Mac { field, length: bytes.len() }),
    }
}

/// A domain's name in the form in which all are compared: lower case, no final dot, and what is not printable as
/// `\DDD`. The root's is ".".
fn domain(field: &'static str, name: &str, clamped: &mut u32) -> Result<String, Refusal> {
    let bare = name.strip_suffix('.').unwrap_or(name);
    if bare.len() > MAX_NAME_BYTES {
        return Err(Refusal::TooLong { field, length: bare.len(), limit: MAX_NAME_BYTES });
    }
    if bare.is_empty() {
        return Ok(".".to_owned());
    }
    if bare.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase()) {
        return Ok(bare.to_owned());
    }
    *clamped += 1;
    let mut text = String::with_capacity(bare.len() + 16);
    for byte in bare.bytes() {
        if byte.is_ascii_graphic() {
            text.push(char::from(byte.to_ascii_lowercase()));
        } else {
            text.push_str(&format!("\\{byte:03}"));
        }
    }
    Ok(text)
}

/// Cuts a stranger's text to `limit` bytes at a character boundary and takes control characters out.
fn cut(text: &str, limit: usize, clamped: &mut u32) -> String {
    let cut = super::printable(text, limit);
    *clamped += u32::from(cut.len() != text.len());
    cut
}
