DROP INDEX domains_by_last_seen;
DROP INDEX remote_hosts_by_last_seen;
DROP INDEX device_addresses_by_address;
DROP INDEX devices_by_root;
DROP INDEX devices_by_last_seen;
DROP INDEX flows_by_port;
DROP INDEX flows_by_domain;
