-- See the migration of SQLite. What may be null now but is written out reads the same, and stays as it is. The rest changes
-- in one pass over each part, which writes it anew.
ALTER TABLE flows
    ALTER COLUMN flow_id DROP NOT NULL,
    ALTER COLUMN conntrack_id DROP NOT NULL,
    ALTER COLUMN dst_ip DROP NOT NULL,
    ALTER COLUMN ends DROP NOT NULL,
    ALTER COLUMN end_kind DROP NOT NULL;
ALTER TABLE flows
    ALTER COLUMN last_seen_us TYPE BIGINT USING last_seen_us - first_seen_us,
    ALTER COLUMN flow_id TYPE BIGINT USING CASE WHEN flow_id BETWEEN 0 AND 4294967295 THEN flow_id END,
    ALTER COLUMN conntrack_id TYPE INTEGER USING CASE WHEN flow_id BETWEEN 0 AND 4294967295 THEN NULLIF(conntrack_id, 0) END,
    ALTER COLUMN kernel_start_us TYPE BIGINT USING CASE WHEN kernel_start_us IS NULL THEN 0 WHEN kernel_start_us NOT IN (0, first_seen_us) THEN kernel_start_us END;
ALTER TABLE flows RENAME COLUMN last_seen_us TO lasted_us;
ALTER TABLE open_flows
    ALTER COLUMN flow_id DROP NOT NULL,
    ALTER COLUMN conntrack_id DROP NOT NULL,
    ALTER COLUMN dst_ip DROP NOT NULL,
    ALTER COLUMN ends DROP NOT NULL;
ALTER TABLE open_flows
    ALTER COLUMN last_seen_us TYPE BIGINT USING last_seen_us - first_seen_us,
    ALTER COLUMN kernel_start_us TYPE BIGINT USING CASE WHEN kernel_start_us IS NULL THEN 0 WHEN kernel_start_us NOT IN (0, first_seen_us) THEN kernel_start_us END;
ALTER TABLE open_flows RENAME COLUMN last_seen_us TO lasted_us;
