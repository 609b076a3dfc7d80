-- What lists are sorted and filtered by. Indexes on flows hold only the rows that they are needed for: those with a
-- name, and those of ports so rare that a window of the newest rows may hold none of them.
CREATE INDEX flows_by_domain ON flows (domain_id) WHERE domain_id IS NOT NULL;
CREATE INDEX flows_by_port ON flows (service_port) WHERE service_port NOT IN (0, 53, 443);

CREATE INDEX devices_by_last_seen ON devices (last_seen_us);
CREATE INDEX devices_by_root ON devices (root_id) WHERE root_id IS NOT NULL;
CREATE INDEX device_addresses_by_address ON device_addresses (address);
CREATE INDEX remote_hosts_by_last_seen ON remote_hosts (last_seen_us);
CREATE INDEX domains_by_last_seen ON domains (last_seen_us);
