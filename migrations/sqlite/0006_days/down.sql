DELETE FROM id_blocks WHERE name IN ('firewall_drop', 'raw_event');
