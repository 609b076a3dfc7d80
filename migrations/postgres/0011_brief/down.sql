UPDATE flows SET dst_ip = remote_hosts.address FROM remote_hosts WHERE remote_hosts.id = host_id AND dst_ip IS NULL;
ALTER TABLE flows RENAME COLUMN lasted_us TO last_seen_us;
ALTER TABLE flows
    ALTER COLUMN last_seen_us TYPE BIGINT USING first_seen_us + last_seen_us,
    ALTER COLUMN dst_ip TYPE BYTEA USING COALESCE(dst_ip, '\x00000000'),
    ALTER COLUMN flow_id TYPE BIGINT USING COALESCE(flow_id, -1),
    ALTER COLUMN conntrack_id TYPE INTEGER USING COALESCE(conntrack_id, 0),
    ALTER COLUMN kernel_start_us TYPE BIGINT USING CASE WHEN kernel_start_us IS NULL THEN first_seen_us WHEN kernel_start_us <> 0 THEN kernel_start_us END,
    ALTER COLUMN ends TYPE SMALLINT USING COALESCE(ends, 9),
    ALTER COLUMN domain_reason TYPE SMALLINT USING CASE WHEN domain_id IS NOT NULL THEN COALESCE(domain_reason, 1) ELSE domain_reason END,
    ALTER COLUMN domain_confidence TYPE SMALLINT USING CASE WHEN domain_id IS NOT NULL THEN COALESCE(domain_confidence, 95) ELSE domain_confidence END,
    ALTER COLUMN end_kind TYPE SMALLINT USING COALESCE(end_kind, 1);
ALTER TABLE flows
    ALTER COLUMN flow_id SET NOT NULL,
    ALTER COLUMN conntrack_id SET NOT NULL,
    ALTER COLUMN dst_ip SET NOT NULL,
    ALTER COLUMN ends SET NOT NULL,
    ALTER COLUMN end_kind SET NOT NULL;
UPDATE open_flows SET dst_ip = remote_hosts.address FROM remote_hosts WHERE remote_hosts.id = host_id AND dst_ip IS NULL;
ALTER TABLE open_flows RENAME COLUMN lasted_us TO last_seen_us;
ALTER TABLE open_flows
    ALTER COLUMN last_seen_us TYPE BIGINT USING first_seen_us + last_seen_us,
    ALTER COLUMN dst_ip TYPE BYTEA USING COALESCE(dst_ip, '\x00000000'),
    ALTER COLUMN flow_id TYPE BIGINT USING COALESCE(flow_id, -1),
    ALTER COLUMN conntrack_id TYPE INTEGER USING COALESCE(conntrack_id, 0),
    ALTER COLUMN kernel_start_us TYPE BIGINT USING CASE WHEN kernel_start_us IS NULL THEN first_seen_us WHEN kernel_start_us <> 0 THEN kernel_start_us END,
    ALTER COLUMN ends TYPE SMALLINT USING COALESCE(ends, 9),
    ALTER COLUMN domain_reason TYPE SMALLINT USING CASE WHEN domain_id IS NOT NULL THEN COALESCE(domain_reason, 1) ELSE domain_reason END,
    ALTER COLUMN domain_confidence TYPE SMALLINT USING CASE WHEN domain_id IS NOT NULL THEN COALESCE(domain_confidence, 95) ELSE domain_confidence END;
ALTER TABLE open_flows
    ALTER COLUMN flow_id SET NOT NULL,
    ALTER COLUMN conntrack_id SET NOT NULL,
    ALTER COLUMN dst_ip SET NOT NULL,
    ALTER COLUMN ends SET NOT NULL;
