-- What people keep and what detection finds. rules, anomaly_hits and incidents are written by detection and by people
-- who judge it; baselines by recompute-baselines.

-- A filter of a list under a name: the part of its page's address behind the question mark.
CREATE TABLE saved_queries (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    list TEXT NOT NULL,
    name TEXT NOT NULL,
    query TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    UNIQUE (list, name)
);

-- What is not to be told of. kind 1: it is known to be right, and scores less; 2: it is suppressed. Each scope that is
-- given must fit; null: any.
CREATE TABLE rules (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    kind INTEGER NOT NULL,
    -- As in the reasons of a score, such as NEW_DST.
    code TEXT,
    device_id INTEGER REFERENCES devices (id),
    host_id INTEGER REFERENCES remote_hosts (id),
    -- An address of 4 or 16 bytes and how many of its bits count.
    network BLOB,
    network_bits INTEGER,
    -- With all names below it.
    domain TEXT,
    asn INTEGER,
    organisation TEXT,
    protocol INTEGER,
    port INTEGER,
    note TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    -- Null: for ever.
    expires_us INTEGER
);

-- Hits with one cause. codes: of all its hits, in their order, with blanks between.
CREATE TABLE incidents (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    router_id INTEGER NOT NULL REFERENCES routers (id),
    device_id INTEGER REFERENCES devices (id),
    -- SHA-256 of what makes two hits one story.
    fingerprint BLOB NOT NULL,
    codes TEXT NOT NULL,
    hits INTEGER NOT NULL,
    max_score INTEGER NOT NULL,
    first_seen_us INTEGER NOT NULL,
    last_seen_us INTEGER NOT NULL,
    acknowledged_us INTEGER
);
CREATE INDEX incidents_by_fingerprint ON incidents (fingerprint, last_seen_us);
CREATE INDEX incidents_by_last_seen ON incidents (last_seen_us, id);

-- What scored enough, with its evidence: the figures as they were then, and the rows behind them, which may go before it.
CREATE TABLE anomaly_hits (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    router_id INTEGER NOT NULL REFERENCES routers (id),
    device_id INTEGER REFERENCES devices (id),
    host_id INTEGER REFERENCES remote_hosts (id),
    incident_id INTEGER REFERENCES incidents (id) ON DELETE SET NULL,
    -- Of flows; null: about the device as a whole.
    flow_row_id INTEGER,
    protocol INTEGER,
    port INTEGER,
    time_us INTEGER NOT NULL,
    fingerprint BLOB NOT NULL,
    score INTEGER NOT NULL,
    codes TEXT NOT NULL,
    -- JSON: of each reason its code, its weight, the numbers compared, the rows behind them, and the line to read.
    evidence TEXT NOT NULL,
    acknowledged_us INTEGER
);
CREATE INDEX anomaly_hits_by_device ON anomaly_hits (device_id, id);
CREATE INDEX anomaly_hits_by_incident ON anomaly_hits (incident_id, id);
CREATE INDEX anomaly_hits_by_fingerprint ON anomaly_hits (fingerprint, time_us);

-- What is usual for a device: of 24 hours the value that 95 of 100 minutes, or ten minutes, do not exceed. Of those in
-- which it did something, which are counted besides.
CREATE TABLE baselines (
    device_id INTEGER NOT NULL PRIMARY KEY REFERENCES devices (id),
    minutes INTEGER NOT NULL,
    bytes_orig_per_minute INTEGER NOT NULL,
    flows_per_minute INTEGER NOT NULL,
    ten_minutes INTEGER NOT NULL,
    -- Remote hosts that it had not turned to for 24 hours.
    new_hosts_per_ten_minutes INTEGER NOT NULL,
    -- Of the responders.
    ports_per_ten_minutes INTEGER NOT NULL,
    -- The end of the 24 hours.
    until_us INTEGER NOT NULL
);
