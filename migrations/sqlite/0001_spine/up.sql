-- Times are microseconds since 1970 (UTC), addresses are 4 or 16 bytes in network order.
-- Unsigned 32 and 64-bit numbers (flow_id, epoch, last_sequence, conntrack_id, status, mark) are kept as the
-- signed number with the same bits.

CREATE TABLE settings (
    key TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Row ids are handed out in blocks, so that several servers can give them without asking each time.
CREATE TABLE id_blocks (
    name TEXT NOT NULL PRIMARY KEY,
    next_id INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO id_blocks (name, next_id) VALUES ('flow', 1);

-- AUTOINCREMENT on what is interned: an id that a cache may still hold is never given again.
CREATE TABLE routers (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    first_seen_us INTEGER NOT NULL,
    last_heard_us INTEGER,
    lag_us INTEGER,
    clock_skew_us INTEGER,
    agent_version TEXT,
    hostname TEXT,
    kernel TEXT,
    os TEXT,
    architecture TEXT,
    open_flows INTEGER,
    spool_bytes INTEGER,
    memory_bytes INTEGER,
    warnings TEXT
) STRICT;

-- A device is a MAC behind a router where it is known, else an address. What was stored under a device stays there:
-- a device that turns out to be another one is shown as part of it (merged_into), which can be taken back.
CREATE TABLE devices (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    router_id INTEGER NOT NULL REFERENCES routers (id),
    -- Its MAC, 6 bytes, or where that is not known its address, 4 or 16.
    identity BLOB NOT NULL,
    -- The address to show it by. Which addresses are its own stands in device_addresses.
    address BLOB NOT NULL,
    first_seen_us INTEGER NOT NULL,
    last_seen_us INTEGER NOT NULL,
    vendor_class TEXT,
    interface TEXT,
    lease_until_us INTEGER,
    -- The device that it was found to be.
    merged_into INTEGER REFERENCES devices (id),
    -- The end of the chain of merged_into; null: the device itself.
    root_id INTEGER REFERENCES devices (id),
    UNIQUE (router_id, identity)
) STRICT;

CREATE TABLE remote_hosts (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    address BLOB NOT NULL UNIQUE,
    first_seen_us INTEGER NOT NULL,
    last_seen_us INTEGER NOT NULL
) STRICT;

-- How far each run of each agent is committed. Written with the rows it vouches for.
CREATE TABLE ingest_cursors (
    router_id INTEGER NOT NULL REFERENCES routers (id),
    epoch INTEGER NOT NULL,
    last_sequence INTEGER NOT NULL,
    PRIMARY KEY (router_id, epoch)
) STRICT, WITHOUT ROWID;

-- Ended flows. No foreign keys here: they would cost a look-up per row in what is written most.
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
    -- Which end is the device, plus four times which end is remote: netmon.v1.End.
    ends INTEGER NOT NULL,
    domain_id INTEGER,
    domain_confidence INTEGER,
    domain_reason INTEGER
) STRICT;
-- An index of SQLite ends in the row id, so these are (device_id, id) and (host_id, id).
CREATE INDEX flows_by_device ON flows (device_id);
CREATE INDEX flows_by_host ON flows (host_id);

-- Open flows: the columns of flows. end_kind is always null. No index but the key: what is here is written and
-- removed all the time, and a server that starts reads all of a router's.
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
    -- Which end is the device, plus four times which end is remote: netmon.v1.End.
    ends INTEGER NOT NULL,
    domain_id INTEGER,
    domain_confidence INTEGER,
    domain_reason INTEGER
) STRICT;

-- What moved in each minute, by device. device_id 0: no LAN device took part.
CREATE TABLE device_minutes (
    minute INTEGER NOT NULL,
    router_id INTEGER NOT NULL,
    device_id INTEGER NOT NULL,
    flows INTEGER NOT NULL,
    bytes_orig INTEGER NOT NULL,
    bytes_reply INTEGER NOT NULL,
    packets_orig INTEGER NOT NULL,
    packets_reply INTEGER NOT NULL,
    PRIMARY KEY (minute, router_id, device_id)
) STRICT, WITHOUT ROWID;

-- The same traffic by protocol and the responder's port.
CREATE TABLE service_minutes (
    minute INTEGER NOT NULL,
    router_id INTEGER NOT NULL,
    protocol INTEGER NOT NULL,
    port INTEGER NOT NULL,
    flows INTEGER NOT NULL,
    bytes_orig INTEGER NOT NULL,
    bytes_reply INTEGER NOT NULL,
    packets_orig INTEGER NOT NULL,
    packets_reply INTEGER NOT NULL,
    PRIMARY KEY (minute, router_id, protocol, port)
) STRICT, WITHOUT ROWID;

CREATE TABLE gaps (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    router_id INTEGER NOT NULL REFERENCES routers (id),
    cause INTEGER NOT NULL,
    count INTEGER NOT NULL,
    from_us INTEGER NOT NULL,
    to_us INTEGER NOT NULL,
    detail TEXT NOT NULL
) STRICT;

-- Events whose own tables come later, as netmon.v1.Event.
CREATE TABLE raw_events (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    router_id INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    time_us INTEGER NOT NULL,
    payload BLOB NOT NULL
) STRICT;
