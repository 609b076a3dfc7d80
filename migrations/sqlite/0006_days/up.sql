-- Drops and raw events take their ids where flows and DNS answers do. SQLite keeps each table in one piece; Postgres
-- keeps one piece a day, which the ids tell.
INSERT INTO id_blocks (name, next_id) SELECT 'firewall_drop', COALESCE(MAX(id), 0) + 1 FROM firewall_drops;
INSERT INTO id_blocks (name, next_id) SELECT 'raw_event', COALESCE(MAX(id), 0) + 1 FROM raw_events;
