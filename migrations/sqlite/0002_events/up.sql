-- What else a router tells: names, drops, identities, its own health. Rows of one kind are appended in the order of
-- arrival; indexes are only (interned id, id), so that they grow at a few places.

-- Whose an address is now. It is moved to another device when that one is seen to hold it; the flows stay with the
-- device that held it then.
CREATE TABLE device_addresses (
    router_id INTEGER NOT NULL REFERENCES routers (id),
    address BLOB NOT NULL,
    device_id INTEGER NOT NULL REFERENCES devices (id),
    first_seen_us INTEGER NOT NULL,
    last_seen_us INTEGER NOT NULL,
    PRIMARY KEY (router_id, address)
) STRICT, WITHOUT ROWID;
CREATE INDEX device_addresses_by_device ON device_addresses (device_id);

-- source 1: a person said so. 2: its DHCP lease.
CREATE TABLE device_names (
    device_id INTEGER NOT NULL REFERENCES devices (id),
    source INTEGER NOT NULL,
    name TEXT NOT NULL,
    first_seen_us INTEGER NOT NULL,
    last_seen_us INTEGER NOT NULL,
    PRIMARY KEY (device_id, source, name)
) STRICT, WITHOUT ROWID;

-- What was merged, and what of it was taken back. cause 1: an address turned out to be this device's. 2: a person
-- said so.
CREATE TABLE device_merges (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    device_id INTEGER NOT NULL REFERENCES devices (id),
    into_id INTEGER NOT NULL REFERENCES devices (id),
    cause INTEGER NOT NULL,
    time_us INTEGER NOT NULL,
    undone_us INTEGER
) STRICT;

-- Short texts that repeat: log prefixes of firewall rules, names of interfaces.
CREATE TABLE labels (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    text TEXT NOT NULL UNIQUE
) STRICT;

-- Lower case, without the final dot.
CREATE TABLE domains (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    first_seen_us INTEGER NOT NULL,
    last_seen_us INTEGER NOT NULL
) STRICT;

-- One answer to one question of one client. Ids come from id_blocks.
CREATE TABLE dns_queries (
    id INTEGER NOT NULL PRIMARY KEY,
    router_id INTEGER NOT NULL,
    -- Null: the router itself asked.
    device_id INTEGER,
    domain_id INTEGER NOT NULL,
    time_us INTEGER NOT NULL,
    client_ip BLOB NOT NULL,
    type INTEGER NOT NULL,
    rcode INTEGER NOT NULL,
    -- Null: the router itself answered.
    resolver_ip BLOB,
    cached INTEGER NOT NULL
) STRICT;
CREATE INDEX dns_queries_by_device ON dns_queries (device_id);
CREATE INDEX dns_queries_by_domain ON dns_queries (domain_id);
INSERT INTO id_blocks (name, next_id) VALUES ('dns_query', 1);

-- The records of an answer, in their order, the links of a CNAME chain included. domain_id: of the record's owner.
CREATE TABLE dns_answers (
    query_id INTEGER NOT NULL,
    position INTEGER NOT NULL,
    domain_id INTEGER NOT NULL,
    type INTEGER NOT NULL,
    -- A and AAAA.
    address BLOB,
    -- All other types.
    text TEXT,
    -- Null: not known.
    ttl_s INTEGER,
    PRIMARY KEY (query_id, position)
) STRICT, WITHOUT ROWID;

-- Counts of questions, as the original agent sends them.
CREATE TABLE dns_buckets (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    router_id INTEGER NOT NULL,
    device_id INTEGER,
    bucket_start_us INTEGER NOT NULL,
    client_ip BLOB NOT NULL,
    type TEXT NOT NULL,
    name_hash TEXT NOT NULL,
    count INTEGER NOT NULL,
    nxdomain INTEGER NOT NULL
) STRICT;
CREATE INDEX dns_buckets_by_device ON dns_buckets (device_id);

-- Packets that a firewall dropped. device_id is the end that is known as a device, host_id the other one.
CREATE TABLE firewall_drops (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    router_id INTEGER NOT NULL,
    device_id INTEGER,
    host_id INTEGER,
    time_us INTEGER NOT NULL,
    -- 1 PREROUTING, 2 INPUT, 3 FORWARD, 4 OUTPUT, 5 POSTROUTING, 6 INGRESS, 0 not known.
    hook INTEGER NOT NULL,
    prefix_id INTEGER NOT NULL,
    nflog_group INTEGER NOT NULL,
    in_interface_id INTEGER,
    out_interface_id INTEGER,
    src_ip BLOB NOT NULL,
    dst_ip BLOB NOT NULL,
    src_port INTEGER NOT NULL,
    dst_port INTEGER NOT NULL,
    protocol INTEGER NOT NULL,
    tcp_flags INTEGER,
    icmp_type INTEGER,
    icmp_code INTEGER,
    src_mac BLOB,
    length INTEGER NOT NULL,
    left_out INTEGER NOT NULL
) STRICT;
CREATE INDEX firewall_drops_by_device ON firewall_drops (device_id);
CREATE INDEX firewall_drops_by_host ON firewall_drops (host_id);

-- A router's own state. Of what has a level the last sample of the minute, except conntrack_count, which is the
-- largest; of what is counted the sum.
CREATE TABLE router_minutes (
    minute INTEGER NOT NULL,
    router_id INTEGER NOT NULL,
    interval_ms INTEGER NOT NULL,
    load1_milli INTEGER NOT NULL,
    load5_milli INTEGER NOT NULL,
    load15_milli INTEGER NOT NULL,
    memory_total_bytes INTEGER NOT NULL,
    memory_available_bytes INTEGER NOT NULL,
    swap_total_bytes INTEGER NOT NULL,
    swap_free_bytes INTEGER NOT NULL,
    disk_total_bytes INTEGER NOT NULL,
    disk_free_bytes INTEGER NOT NULL,
    disk_read_bytes INTEGER NOT NULL,
    disk_written_bytes INTEGER NOT NULL,
    uptime_s INTEGER NOT NULL,
    conntrack_count INTEGER NOT NULL,
    conntrack_max INTEGER NOT NULL,
    temperature_milli_c INTEGER,
    PRIMARY KEY (minute, router_id)
) STRICT, WITHOUT ROWID;

-- interface_id: of labels. Sums of the minute, and whether it was up at its end.
CREATE TABLE interface_minutes (
    minute INTEGER NOT NULL,
    router_id INTEGER NOT NULL,
    interface_id INTEGER NOT NULL,
    rx_bytes INTEGER NOT NULL,
    tx_bytes INTEGER NOT NULL,
    rx_packets INTEGER NOT NULL,
    tx_packets INTEGER NOT NULL,
    rx_errors INTEGER NOT NULL,
    tx_errors INTEGER NOT NULL,
    rx_dropped INTEGER NOT NULL,
    tx_dropped INTEGER NOT NULL,
    up INTEGER NOT NULL,
    PRIMARY KEY (minute, router_id, interface_id)
) STRICT, WITHOUT ROWID;

-- Batches that came over HTTP, kept for a day: one that comes again counts once. digest: SHA-256 of the router's
-- name and the bytes of "events". Written with the rows it vouches for.
CREATE TABLE http_batches (
    router_id INTEGER NOT NULL REFERENCES routers (id),
    digest BLOB NOT NULL,
    time_us INTEGER NOT NULL,
    accepted INTEGER NOT NULL,
    rejected INTEGER NOT NULL,
    PRIMARY KEY (router_id, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX http_batches_by_time ON http_batches (time_us);
