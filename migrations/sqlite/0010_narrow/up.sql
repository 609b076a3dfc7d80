-- What is zero for nearly all flows is null, and so is a dst_port that is the service_port; such columns stand at the end of a row,
-- where SQLite leaves nulls out. An end is what the device is (1 initiator, 2 responder), plus four times what is remote.
ALTER TABLE flows RENAME TO flows_wide;
CREATE TABLE flows (
    id INTEGER NOT NULL PRIMARY KEY,
    router_id INTEGER NOT NULL,
    device_id INTEGER,
    host_id INTEGER,
    flow_id INTEGER NOT NULL,
    conntrack_id INTEGER NOT NULL,
    protocol INTEGER NOT NULL,
    src_ip BLOB NOT NULL,
    src_port INTEGER NOT NULL,
    dst_ip BLOB NOT NULL,
    service_port INTEGER NOT NULL,
    direction INTEGER NOT NULL,
    bytes_orig INTEGER NOT NULL,
    bytes_reply INTEGER NOT NULL,
    packets_orig INTEGER NOT NULL,
    packets_reply INTEGER NOT NULL,
    first_seen_us INTEGER NOT NULL,
    last_seen_us INTEGER NOT NULL,
    tcp_state INTEGER NOT NULL,
    status INTEGER NOT NULL,
    end_kind INTEGER NOT NULL,
    ends INTEGER NOT NULL,
    kernel_start_us INTEGER,
    reply_dst_ip BLOB,
    domain_id INTEGER,
    domain_confidence INTEGER,
    domain_reason INTEGER,
    reply_src_ip BLOB,
    reply_src_port INTEGER,
    reply_dst_port INTEGER,
    dst_port INTEGER,
    zone INTEGER,
    mark INTEGER,
    no_counters INTEGER,
    icmp_type INTEGER,
    icmp_code INTEGER,
    icmp_id INTEGER,
    bytes_orig_before INTEGER,
    bytes_reply_before INTEGER,
    packets_orig_before INTEGER,
    packets_reply_before INTEGER
) STRICT;
INSERT INTO flows
SELECT id, router_id, device_id, host_id, flow_id, conntrack_id, protocol, src_ip, src_port, dst_ip, service_port, direction, bytes_orig, bytes_reply, packets_orig, packets_reply, first_seen_us, last_seen_us, tcp_state, status, end_kind, ends, kernel_start_us, reply_dst_ip, domain_id, domain_confidence, domain_reason, reply_src_ip, reply_src_port, reply_dst_port, NULLIF(dst_port, service_port), NULLIF(zone, 0), NULLIF(mark, 0), NULLIF(no_counters, 0), icmp_type, icmp_code, icmp_id, NULLIF(bytes_orig_before, 0), NULLIF(bytes_reply_before, 0), NULLIF(packets_orig_before, 0), NULLIF(packets_reply_before, 0)
FROM flows_wide;
DROP TABLE flows_wide;
ALTER TABLE open_flows RENAME TO open_flows_wide;
CREATE TABLE open_flows (
    id INTEGER NOT NULL PRIMARY KEY,
    router_id INTEGER NOT NULL,
    device_id INTEGER,
    host_id INTEGER,
    flow_id INTEGER NOT NULL,
    conntrack_id INTEGER NOT NULL,
    protocol INTEGER NOT NULL,
    src_ip BLOB NOT NULL,
    src_port INTEGER NOT NULL,
    dst_ip BLOB NOT NULL,
    service_port INTEGER NOT NULL,
    direction INTEGER NOT NULL,
    bytes_orig INTEGER NOT NULL,
    bytes_reply INTEGER NOT NULL,
    packets_orig INTEGER NOT NULL,
    packets_reply INTEGER NOT NULL,
    first_seen_us INTEGER NOT NULL,
    last_seen_us INTEGER NOT NULL,
    tcp_state INTEGER NOT NULL,
    status INTEGER NOT NULL,
    end_kind INTEGER,
    ends INTEGER NOT NULL,
    kernel_start_us INTEGER,
    reply_dst_ip BLOB,
    domain_id INTEGER,
    domain_confidence INTEGER,
    domain_reason INTEGER,
    reply_src_ip BLOB,
    reply_src_port INTEGER,
    reply_dst_port INTEGER,
    dst_port INTEGER,
    zone INTEGER,
    mark INTEGER,
    no_counters INTEGER,
    icmp_type INTEGER,
    icmp_code INTEGER,
    icmp_id INTEGER,
    bytes_orig_before INTEGER,
    bytes_reply_before INTEGER,
    packets_orig_before INTEGER,
    packets_reply_before INTEGER
) STRICT;
INSERT INTO open_flows
SELECT id, router_id, device_id, host_id, flow_id, conntrack_id, protocol, src_ip, src_port, dst_ip, service_port, direction, bytes_orig, bytes_reply, packets_orig, packets_reply, first_seen_us, last_seen_us, tcp_state, status, end_kind, ends, kernel_start_us, reply_dst_ip, domain_id, domain_confidence, domain_reason, reply_src_ip, reply_src_port, reply_dst_port, NULLIF(dst_port, service_port), NULLIF(zone, 0), NULLIF(mark, 0), NULLIF(no_counters, 0), icmp_type, icmp_code, icmp_id, NULLIF(bytes_orig_before, 0), NULLIF(bytes_reply_before, 0), NULLIF(packets_orig_before, 0), NULLIF(packets_reply_before, 0)
FROM open_flows_wide;
DROP TABLE open_flows_wide;
CREATE INDEX flows_by_device ON flows (device_id);
CREATE INDEX flows_by_host ON flows (host_id);
CREATE INDEX flows_by_domain ON flows (domain_id) WHERE domain_id IS NOT NULL;
CREATE INDEX flows_by_port ON flows (service_port) WHERE service_port NOT IN (0, 53, 443);
