-- Rollups of minutes, hours and days (all UTC): counted since 1970, in their own unit. Every table holds the same
-- traffic, so that its sums are those of the flows: what retention takes out of a table stays in removed_sums.

-- By device. device_id 0: no LAN device took part.
CREATE TABLE device_hours (
    hour INTEGER NOT NULL,
    router_id INTEGER NOT NULL,
    device_id INTEGER NOT NULL,
    flows INTEGER NOT NULL,
    bytes_orig INTEGER NOT NULL,
    bytes_reply INTEGER NOT NULL,
    packets_orig INTEGER NOT NULL,
    packets_reply INTEGER NOT NULL,
    PRIMARY KEY (hour, router_id, device_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE device_days (
    day INTEGER NOT NULL,
    router_id INTEGER NOT NULL,
    device_id INTEGER NOT NULL,
    flows INTEGER NOT NULL,
    bytes_orig INTEGER NOT NULL,
    bytes_reply INTEGER NOT NULL,
    packets_orig INTEGER NOT NULL,
    packets_reply INTEGER NOT NULL,
    PRIMARY KEY (day, router_id, device_id)
) STRICT, WITHOUT ROWID;

-- By protocol and the responder's port. Protocol 0 and port -1: all that are not among the first of an hour or day that is over.
CREATE TABLE service_hours (
    hour INTEGER NOT NULL,
    router_id INTEGER NOT NULL,
    protocol INTEGER NOT NULL,
    port INTEGER NOT NULL,
    flows INTEGER NOT NULL,
    bytes_orig INTEGER NOT NULL,
    bytes_reply INTEGER NOT NULL,
    packets_orig INTEGER NOT NULL,
    packets_reply INTEGER NOT NULL,
    PRIMARY KEY (hour, router_id, protocol, port)
) STRICT, WITHOUT ROWID;
CREATE TABLE service_days (
    day INTEGER NOT NULL,
    router_id INTEGER NOT NULL,
    protocol INTEGER NOT NULL,
    port INTEGER NOT NULL,
    flows INTEGER NOT NULL,
    bytes_orig INTEGER NOT NULL,
    bytes_reply INTEGER NOT NULL,
    packets_orig INTEGER NOT NULL,
    packets_reply INTEGER NOT NULL,
    PRIMARY KEY (day, router_id, protocol, port)
) STRICT, WITHOUT ROWID;

-- By remote host. host_id 0: no outside address took part; -1: all that are not among the first of an hour or day that is over.
CREATE TABLE host_minutes (
    minute INTEGER NOT NULL,
    router_id INTEGER NOT NULL,
    host_id INTEGER NOT NULL,
    flows INTEGER NOT NULL,
    bytes_orig INTEGER NOT NULL,
    bytes_reply INTEGER NOT NULL,
    packets_orig INTEGER NOT NULL,
    packets_reply INTEGER NOT NULL,
    PRIMARY KEY (minute, router_id, host_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE host_hours (
    hour INTEGER NOT NULL,
    router_id INTEGER NOT NULL,
    host_id INTEGER NOT NULL,
    flows INTEGER NOT NULL,
    bytes_orig INTEGER NOT NULL,
    bytes_reply INTEGER NOT NULL,
    packets_orig INTEGER NOT NULL,
    packets_reply INTEGER NOT NULL,
    PRIMARY KEY (hour, router_id, host_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE host_days (
    day INTEGER NOT NULL,
    router_id INTEGER NOT NULL,
    host_id INTEGER NOT NULL,
    flows INTEGER NOT NULL,
    bytes_orig INTEGER NOT NULL,
    bytes_reply INTEGER NOT NULL,
    packets_orig INTEGER NOT NULL,
    packets_reply INTEGER NOT NULL,
    PRIMARY KEY (day, router_id, host_id)
) STRICT, WITHOUT ROWID;

-- The sums of what retention took away, by table.
CREATE TABLE removed_sums (
    name TEXT NOT NULL PRIMARY KEY,
    flows INTEGER NOT NULL,
    bytes_orig INTEGER NOT NULL,
    bytes_reply INTEGER NOT NULL,
    packets_orig INTEGER NOT NULL,
    packets_reply INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
