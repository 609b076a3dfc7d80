ALTER TABLE flows RENAME TO flows_narrow;
CREATE TABLE flows (
    id INTEGER NOT NULL PRIMARY KEY,
    router_id INTEGER NOT NULL,
    device_id INTEGER,
    host_id INTEGER,
    flow_id INTEGER NOT NULL,
    zone INTEGER NOT NULL,
    conntrack_id INTEGER NOT NULL,
    protocol INTEGER NOT NULL,
    src_ip BLOB NOT NULL,
    src_port INTEGER NOT NULL,
    dst_ip BLOB NOT NULL,
    dst_port INTEGER NOT NULL,
    reply_src_ip BLOB,
    reply_src_port INTEGER,
    reply_dst_ip BLOB,
    reply_dst_port INTEGER,
    service_port INTEGER NOT NULL,
    icmp_type INTEGER,
    icmp_code INTEGER,
    icmp_id INTEGER,
    direction INTEGER NOT NULL,
    bytes_orig INTEGER NOT NULL,
    bytes_reply INTEGER NOT NULL,
    packets_orig INTEGER NOT NULL,
    packets_reply INTEGER NOT NULL,
    bytes_orig_before INTEGER NOT NULL,
    bytes_reply_before INTEGER NOT NULL,
    packets_orig_before INTEGER NOT NULL,
    packets_reply_before INTEGER NOT NULL,
    first_seen_us INTEGER NOT NULL,
    last_seen_us INTEGER NOT NULL,
    kernel_start_us INTEGER,
    tcp_state INTEGER NOT NULL,
    status INTEGER NOT NULL,
    mark INTEGER NOT NULL,
    no_counters INTEGER NOT NULL,
    end_kind INTEGER NOT NULL,
    ends INTEGER NOT NULL,
    domain_id INTEGER,
    domain_confidence INTEGER,
    domain_reason INTEGER
) STRICT;
INSERT INTO flows
SELECT id, router_id, device_id, host_id, flow_id, COALESCE(zone, 0), conntrack_id, protocol, src_ip, src_port, dst_ip, COALESCE(dst_port, service_port), reply_src_ip, reply_src_port, reply_dst_ip, reply_dst_port, service_port, icmp_type, icmp_code, icmp_id, direction, bytes_orig, bytes_reply, packets_orig, packets_reply, COALESCE(bytes_orig_before, 0), COALESCE(bytes_reply_before, 0), COALESCE(packets_orig_before, 0), COALESCE(packets_reply_before, 0), first_seen_us, last_seen_us, kernel_start_us, tcp_state, status, COALESCE(mark, 0), COALESCE(no_counters, 0), end_kind, ends, domain_id, domain_confidence, domain_reason
FROM flows_narrow;
DROP TABLE flows_narrow;
ALTER TABLE open_flows RENAME TO open_flows_narrow;
CREATE TABLE open_flows (
    id INTEGER NOT NULL PRIMARY KEY,
    router_id INTEGER NOT NULL,
    device_id INTEGER,
    host_id INTEGER,
    flow_id INTEGER NOT NULL,
    zone INTEGER NOT NULL,
    conntrack_id INTEGER NOT NULL,
    protocol INTEGER NOT NULL,
    src_ip BLOB NOT NULL,
    src_port INTEGER NOT NULL,
    dst_ip BLOB NOT NULL,
    dst_port INTEGER NOT NULL,
    reply_src_ip BLOB,
    reply_src_port INTEGER,
    reply_dst_ip BLOB,
    reply_dst_port INTEGER,
    service_port INTEGER NOT NULL,
    icmp_type INTEGER,
    icmp_code INTEGER,
    icmp_id INTEGER,
    direction INTEGER NOT NULL,
    bytes_orig INTEGER NOT NULL,
    bytes_reply INTEGER NOT NULL,
    packets_orig INTEGER NOT NULL,
    packets_reply INTEGER NOT NULL,
    bytes_orig_before INTEGER NOT NULL,
    bytes_reply_before INTEGER NOT NULL,
    packets_orig_before INTEGER NOT NULL,
    packets_reply_before INTEGER NOT NULL,
    first_seen_us INTEGER NOT NULL,
    last_seen_us INTEGER NOT NULL,
    kernel_start_us INTEGER,
    tcp_state INTEGER NOT NULL,
    status INTEGER NOT NULL,
    mark INTEGER NOT NULL,
    no_counters INTEGER NOT NULL,
    end_kind INTEGER,
    ends INTEGER NOT NULL,
    domain_id INTEGER,
    domain_confidence INTEGER,
    domain_reason INTEGER
) STRICT;
INSERT INTO open_flows
SELECT id, router_id, device_id, host_id, flow_id, COALESCE(zone, 0), conntrack_id, protocol, src_ip, src_port, dst_ip, COALESCE(dst_port, service_port), reply_src_ip, reply_src_port, reply_dst_ip, reply_dst_port, service_port, icmp_type, icmp_code, icmp_id, direction, bytes_orig, bytes_reply, packets_orig, packets_reply, COALESCE(bytes_orig_before, 0), COALESCE(bytes_reply_before, 0), COALESCE(packets_orig_before, 0), COALESCE(packets_reply_before, 0), first_seen_us, last_seen_us, kernel_start_us, tcp_state, status, COALESCE(mark, 0), COALESCE(no_counters, 0), end_kind, ends, domain_id, domain_confidence, domain_reason
FROM open_flows_narrow;
DROP TABLE open_flows_narrow;
CREATE INDEX flows_by_device ON flows (device_id);
CREATE INDEX flows_by_host ON flows (host_id);
CREATE INDEX flows_by_domain ON flows (domain_id) WHERE domain_id IS NOT NULL;
CREATE INDEX flows_by_port ON flows (service_port) WHERE service_port NOT IN (0, 53, 443);
