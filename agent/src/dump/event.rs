//! One event as a JSON object.

use std::net::IpAddr;

use netmon_proto::v1::{
    DnsAnswer, DnsResponse, End, Event, FirewallDrop, Flow, Gap, GapCause, Heartbeat, HostIdentity,
    InterfaceHealth, RouterHealth, TableSync, event::Kind,
};
use serde_json::{Map, Value, json};

/// One event. Fields that are zero or empty, "not known", are left out.
pub fn json(event: &Event) -> Value {
    let (name, fields) = match &event.kind {
        Some(Kind::Flow(flow)) => ("flow", flow_fields(flow)),
        Some(Kind::Gap(gap)) => ("gap", gap_fields(gap)),
        Some(Kind::TableSync(sync)) => ("table_sync", sync_fields(sync)),
        Some(Kind::Heartbeat(beat)) => ("heartbeat", beat_fields(beat)),
        Some(Kind::FirewallDrop(drop)) => ("firewall_drop", drop_fields(drop)),
        Some(Kind::DnsResponse(response)) => ("dns_response", dns_fields(response)),
        Some(Kind::RouterHealth(health)) => ("router_health", health_fields(health)),
        Some(Kind::HostIdentity(identity)) => ("host_identity", identity_fields(identity)),
        // Not from any source of this version.
        other => ("other", json!({ "debug": format!("{other:?}") })),
    };
    let mut line = Map::new();
    line.insert("type".to_owned(), name.into());
    line.insert("time_us".to_owned(), event.time_us.into());
    if let Value::Object(fields) = fields {
        line.extend(fields.into_iter().filter(|(_, value)| known(value)));
    }
    Value::Object(line)
}

fn known(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_i64() != Some(0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(_) => true,
    }
}

/// `FLOW_PHASE_END` is `"end"`; unspecified is left out.
fn word(name: &str, prefix: &str) -> Value {
    let short = name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase();
    if short == "unspecified" { Value::Null } else { short.into() }
}

fn end(end: End) -> Value {
    if end == End::None { Value::Null } else { word(end.as_str_name(), "END_") }
}

fn address(bytes: &[u8]) -> Value {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    match v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)) {
        Ok(address) => address.to_string().into(),
        Err(_) => Value::Null,
    }
}

fn flow_fields(flow: &Flow) -> Value {
    json!({
        "phase": word(flow.phase().as_str_name(), "FLOW_PHASE_"),
        "flow_id": format!("{:016x}", flow.flow_id),
        "protocol": flow.protocol,
        "direction": word(flow.direction().as_str_name(), "DIRECTION_"),
        "src_ip": address(&flow.src_ip),
        "src_port": flow.src_port,
        "dst_ip": address(&flow.dst_ip),
        "dst_port": flow.dst_port,
        "reply_src_ip": address(&flow.reply_src_ip),
        "reply_src_port": flow.reply_src_port,
        "reply_dst_ip": address(&flow.reply_dst_ip),
        "reply_dst_port": flow.reply_dst_port,
        "icmp_type": flow.icmp_type,
        "icmp_code": flow.icmp_code,
        "icmp_id": flow.icmp_id,
        "bytes_orig": flow.bytes_orig,
        "bytes_reply": flow.bytes_reply,
        "packets_orig": flow.packets_orig,
        "packets_reply": flow.packets_reply,
        "bytes_orig_before": flow.bytes_orig_before,
        "bytes_reply_before": flow.bytes_reply_before,
        "packets_orig_before": flow.packets_orig_before,
        "packets_reply_before": flow.packets_reply_before,
        "first_seen_us": flow.first_seen_us,
        "last_seen_us": flow.last_seen_us,
        "kernel_start_us": flow.kernel_start_us,
        "tcp_state": word(flow.tcp_state().as_str_name(), "TCP_STATE_"),
        "status": flow.status,
        "mark": flow.mark,
        "zone": flow.zone,
        "conntrack_id": flow.conntrack_id,
        "end_unseen": flow.end_unseen,
        "no_counters": flow.no_counters,
        "device": end(flow.device()),
        "remote": end(flow.remote()),
    })
}

fn drop_fields(drop: &FirewallDrop) -> Value {
    json!({
        "hook": drop.hook,
        "prefix": drop.prefix,
        "nflog_group": drop.nflog_group,
        "in_interface": drop.in_interface,
        "out_interface": drop.out_interface,
        "protocol": drop.protocol,
        "src_ip": address(&drop.src_ip),
        "src_port": drop.src_port,
        "dst_ip": address(&drop.dst_ip),
        "dst_port": drop.dst_port,
        "tcp_flags": tcp_flags(drop.tcp_flags),
        "icmp_type": drop.icmp_type,
        "icmp_code": drop.icmp_code,
        "src_mac": mac(&drop.src_mac),
        "length": drop.length,
        "left_out": drop.left_out,
    })
}

/// As the kernel's log writes them: `SYN ACK`.
fn tcp_flags(flags: u32) -> String {
    let names = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
    let set = names.iter().enumerate().filter(|(bit, _)| flags >> bit & 1 == 1);
    set.map(|(_, name)| *name).collect::<Vec<_>>().join(" ")
}

fn dns_fields(response: &DnsResponse) -> Value {
    let answer = |answer: &DnsAnswer| {
        let mut fields = Map::new();
        fields.insert("name".to_owned(), answer.name.as_str().into());
        fields.insert("type".to_owned(), record_type(answer.r#type).into());
        let data =
            if answer.address.is_empty() { answer.text.as_str().into() } else { address(&answer.address) };
        fields.insert("data".to_owned(), data);
        if let Some(ttl_s) = answer.ttl_s {
            fields.insert("ttl_s".to_owned(), ttl_s.into());
        }
        Value::Object(fields)
    };
    json!({
        "client_ip": address(&response.client_ip),
        "name": response.name,
        "record_type": record_type(response.r#type),
        "rcode": rcode(response.rcode),
        "answers": response.answers.iter().map(answer).collect::<Vec<_>>(),
        "resolver_ip": address(&response.resolver_ip),
        "cached": response.cached,
    })
}

/// The usual ones by name, the others as RFC 3597 writes them.
fn record_type(number: u32) -> String {
    let name = match number {
        1 => "A",
        2 => "NS",
        5 => "CNAME",
        6 => "SOA",
        12 => "PTR",
        15 => "MX",
        16 => "TXT",
        28 => "AAAA",
        33 => "SRV",
        64 => "SVCB",
        65 => "HTTPS",
        255 => "ANY",
        _ => return format!("TYPE{number}"),
    };
    name.to_owned()
}

fn rcode(number: u32) -> String {
    let name = match number {
        0 => "NOERROR",
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        _ => return format!("RCODE{number}"),
    };
    name.to_owned()
}

fn gap_fields(gap: &Gap) -> Value {
    json!({
        "cause": word(GapCause::try_from(gap.cause).unwrap_or_default().as_str_name(), "GAP_CAUSE_"),
        "count": gap.count,
        "from_us": gap.from_us,
        "to_us": gap.to_us,
        "detail": gap.detail,
    })
}

fn sync_fields(sync: &TableSync) -> Value {
    let step = word(sync.step().as_str_name(), "STEP_");
    json!({ "step": step, "sync_id": format!("{:016x}", sync.sync_id) })
}

fn beat_fields(beat: &Heartbeat) -> Value {
    json!({
        "uptime_s": beat.uptime_s,
        "open_flows": beat.open_flows,
        "spool_bytes": beat.spool_bytes,
        "spool_batches": beat.spool_batches,
        "memory_bytes": beat.memory_bytes,
        "cpu_ms": beat.cpu_ms,
        "warnings": beat.warnings,
    })
}

fn mac(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

fn identity_fields(identity: &HostIdentity) -> Value {
    json!({
        "mac": mac(&identity.mac),
        "addresses": identity.addresses.iter().map(|bytes| address(bytes)).collect::<Vec<_>>(),
        "host_name": identity.host_name,
        "vendor_class": identity.vendor_class,
        "lease_until_us": identity.lease_until_us,
        "interface": identity.interface,
        "last_seen_us": identity.last_seen_us,
        "is_router": identity.is_router,
    })
}

fn health_fields(health: &RouterHealth) -> Value {
    let interface = |interface: &InterfaceHealth| {
        json!({
            "name": interface.name,
            "up": interface.up,
            "rx_bytes": interface.rx_bytes,
            "tx_bytes": interface.tx_bytes,
            "rx_packets": interface.rx_packets,
            "tx_packets": interface.tx_packets,
            "rx_errors": interface.rx_errors,
            "tx_errors": interface.tx_errors,
            "rx_dropped": interface.rx_dropped,
            "tx_dropped": interface.tx_dropped,
        })
    };
    json!({
        "interval_ms": health.interval_ms,
        "load1_milli": health.load1_milli,
        "load5_milli": health.load5_milli,
        "load15_milli": health.load15_milli,
        "memory_total_bytes": health.memory_total_bytes,
        "memory_available_bytes": health.memory_available_bytes,
        "swap_total_bytes": health.swap_total_bytes,
        "swap_free_bytes": health.swap_free_bytes,
        "disk_total_bytes": health.disk_total_bytes,
        "disk_free_bytes": health.disk_free_bytes,
        "disk_read_bytes": health.disk_read_bytes,
        "disk_written_bytes": health.disk_written_bytes,
        "uptime_s": health.uptime_s,
        "conntrack_count": health.conntrack_count,
        "conntrack_max": health.conntrack_max,
        "temperature_milli_c": health.temperature_milli_c,
        "interfaces": health.interfaces.iter().map(interface).collect::<Vec<_>>(),
        "warnings": health.warnings,
    })
}
