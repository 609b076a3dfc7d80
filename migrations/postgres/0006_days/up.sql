-- The largest tables, in one part a day. The key of a part is the row id: on a new day ids go on at day << 32 (days
-- since 1970), and the part for them is made before that (store/days.rs). So there is a part for every row whatever
-- the times in it, and ids stay unique over all parts. What was here before, and what is imported, has smaller ids and
-- stands in a part of its own, up to 2^44.
INSERT INTO id_blocks (name, next_id) SELECT 'firewall_drop', COALESCE(MAX(id), 0) + 1 FROM firewall_drops;
INSERT INTO id_blocks (name, next_id) SELECT 'raw_event', COALESCE(MAX(id), 0) + 1 FROM raw_events;
ALTER TABLE firewall_drops ALTER COLUMN id DROP IDENTITY;
ALTER TABLE raw_events ALTER COLUMN id DROP IDENTITY;

ALTER TABLE flows RENAME TO flows_before;
ALTER TABLE flows_before RENAME CONSTRAINT flows_pkey TO flows_before_pkey;
ALTER INDEX flows_by_device RENAME TO flows_before_by_device;
ALTER INDEX flows_by_host RENAME TO flows_before_by_host;
ALTER INDEX flows_by_domain RENAME TO flows_before_by_domain;
ALTER INDEX flows_by_port RENAME TO flows_before_by_port;
CREATE TABLE flows (LIKE flows_before, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE INDEX flows_by_device ON flows (device_id, id);
CREATE INDEX flows_by_host ON flows (host_id, id);
CREATE INDEX flows_by_domain ON flows (domain_id, id) WHERE domain_id IS NOT NULL;
CREATE INDEX flows_by_port ON flows (service_port, id) WHERE service_port NOT IN (0, 53, 443);
ALTER TABLE flows ATTACH PARTITION flows_before FOR VALUES FROM (MINVALUE) TO (17592186044416);

ALTER TABLE dns_queries RENAME TO dns_queries_before;
ALTER TABLE dns_queries_before RENAME CONSTRAINT dns_queries_pkey TO dns_queries_before_pkey;
ALTER INDEX dns_queries_by_device RENAME TO dns_queries_before_by_device;
ALTER INDEX dns_queries_by_domain RENAME TO dns_queries_before_by_domain;
CREATE TABLE dns_queries (LIKE dns_queries_before, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE INDEX dns_queries_by_device ON dns_queries (device_id, id);
CREATE INDEX dns_queries_by_domain ON dns_queries (domain_id, id);
ALTER TABLE dns_queries ATTACH PARTITION dns_queries_before FOR VALUES FROM (MINVALUE) TO (17592186044416);

ALTER TABLE dns_answers RENAME TO dns_answers_before;
ALTER TABLE dns_answers_before RENAME CONSTRAINT dns_answers_pkey TO dns_answers_before_pkey;
CREATE TABLE dns_answers (LIKE dns_answers_before, PRIMARY KEY (query_id, position)) PARTITION BY RANGE (query_id);
ALTER TABLE dns_answers ATTACH PARTITION dns_answers_before FOR VALUES FROM (MINVALUE) TO (17592186044416);

ALTER TABLE firewall_drops RENAME TO firewall_drops_before;
ALTER TABLE firewall_drops_before RENAME CONSTRAINT firewall_drops_pkey TO firewall_drops_before_pkey;
ALTER INDEX firewall_drops_by_device RENAME TO firewall_drops_before_by_device;
ALTER INDEX firewall_drops_by_host RENAME TO firewall_drops_before_by_host;
CREATE TABLE firewall_drops (LIKE firewall_drops_before, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE INDEX firewall_drops_by_device ON firewall_drops (device_id, id);
CREATE INDEX firewall_drops_by_host ON firewall_drops (host_id, id);
ALTER TABLE firewall_drops ATTACH PARTITION firewall_drops_before FOR VALUES FROM (MINVALUE) TO (17592186044416);

ALTER TABLE raw_events RENAME TO raw_events_before;
ALTER TABLE raw_events_before RENAME CONSTRAINT raw_events_pkey TO raw_events_before_pkey;
CREATE TABLE raw_events (LIKE raw_events_before, PRIMARY KEY (id)) PARTITION BY RANGE (id);
ALTER TABLE raw_events ATTACH PARTITION raw_events_before FOR VALUES FROM (MINVALUE) TO (17592186044416);
