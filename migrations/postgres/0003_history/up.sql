-- Rollups of minutes, hours and days (all UTC): counted since 1970, in their own unit. Every table holds the same
-- traffic, so that its sums are those of the flows: what retention takes out of a table stays in removed_sums.

-- By device. device_id 0: no LAN device took part.
CREATE TABLE device_hours (
    hour BIGINT NOT NULL,
    router_id BIGINT NOT NULL,
    device_id BIGINT NOT NULL,
    flows BIGINT NOT NULL,
    bytes_orig BIGINT NOT NULL,
    bytes_reply BIGINT NOT NULL,
    packets_orig BIGINT NOT NULL,
    packets_reply BIGINT NOT NULL,
    PRIMARY KEY (hour, router_id, device_id)
);
CREATE TABLE device_days (
    day BIGINT NOT NULL,
    router_id BIGINT NOT NULL,
    device_id BIGINT NOT NULL,
    flows BIGINT NOT NULL,
    bytes_orig BIGINT NOT NULL,
    bytes_reply BIGINT NOT NULL,
    packets_orig BIGINT NOT NULL,
    packets_reply BIGINT NOT NULL,
    PRIMARY KEY (day, router_id, device_id)
);

-- By protocol and the responder's port. Protocol 0 and port -1: all that are not among the first of an hour or day that is over.
CREATE TABLE service_hours (
    hour BIGINT NOT NULL,
    router_id BIGINT NOT NULL,
    protocol SMALLINT NOT NULL,
    port INTEGER NOT NULL,
    flows BIGINT NOT NULL,
    bytes_orig BIGINT NOT NULL,
    bytes_reply BIGINT NOT NULL,
    packets_orig BIGINT NOT NULL,
    packets_reply BIGINT NOT NULL,
    PRIMARY KEY (hour, router_id, protocol, port)
);
CREATE TABLE service_days (
    day BIGINT NOT NULL,
    router_id BIGINT NOT NULL,
    protocol SMALLINT NOT NULL,
    port INTEGER NOT NULL,
    flows BIGINT NOT NULL,
    bytes_orig BIGINT NOT NULL,
    bytes_reply BIGINT NOT NULL,
    packets_orig BIGINT NOT NULL,
    packets_reply BIGINT NOT NULL,
    PRIMARY KEY (day, router_id, protocol, port)
);

-- By remote host. host_id 0: no outside address took part; -1: all that are not among the first of an hour or day that is over.
CREATE TABLE host_minutes (
    minute BIGINT NOT NULL,
    router_id BIGINT NOT NULL,
    host_id BIGINT NOT NULL,
    flows BIGINT NOT NULL,
    bytes_orig BIGINT NOT NULL,
    bytes_reply BIGINT NOT NULL,
    packets_orig BIGINT NOT NULL,
    packets_reply BIGINT NOT NULL,
    PRIMARY KEY (minute, router_id, host_id)
);
CREATE TABLE host_hours (
    hour BIGINT NOT NULL,
    router_id BIGINT NOT NULL,
    host_id BIGINT NOT NULL,
    flows BIGINT NOT NULL,
    bytes_orig BIGINT NOT NULL,
    bytes_reply BIGINT NOT NULL,
    packets_orig BIGINT NOT NULL,
    packets_reply BIGINT NOT NULL,
    PRIMARY KEY (hour, router_id, host_id)
);
CREATE TABLE host_days (
    day BIGINT NOT NULL,
    router_id BIGINT NOT NULL,
    host_id BIGINT NOT NULL,
    flows BIGINT NOT NULL,
    bytes_orig BIGINT NOT NULL,
    bytes_reply BIGINT NOT NULL,
    packets_orig BIGINT NOT NULL,
    packets_reply BIGINT NOT NULL,
    PRIMARY KEY (day, router_id, host_id)
);

-- The sums of what retention took away, by table.
CREATE TABLE removed_sums (
    name TEXT NOT NULL PRIMARY KEY,
    flows BIGINT NOT NULL,
    bytes_orig BIGINT NOT NULL,
    bytes_reply BIGINT NOT NULL,
    packets_orig BIGINT NOT NULL,
    packets_reply BIGINT NOT NULL
);
