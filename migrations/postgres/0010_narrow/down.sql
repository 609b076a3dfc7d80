UPDATE flows SET dst_port = COALESCE(dst_port, service_port), zone = COALESCE(zone, 0), mark = COALESCE(mark, 0), no_counters = COALESCE(no_counters, false), bytes_orig_before = COALESCE(bytes_orig_before, 0), bytes_reply_before = COALESCE(bytes_reply_before, 0), packets_orig_before = COALESCE(packets_orig_before, 0), packets_reply_before = COALESCE(packets_reply_before, 0);
ALTER TABLE flows
    ALTER COLUMN dst_port SET NOT NULL,
    ALTER COLUMN zone SET NOT NULL,
    ALTER COLUMN mark SET NOT NULL,
    ALTER COLUMN no_counters SET NOT NULL,
    ALTER COLUMN bytes_orig_before SET NOT NULL,
    ALTER COLUMN bytes_reply_before SET NOT NULL,
    ALTER COLUMN packets_orig_before SET NOT NULL,
    ALTER COLUMN packets_reply_before SET NOT NULL;
UPDATE open_flows SET dst_port = COALESCE(dst_port, service_port), zone = COALESCE(zone, 0), mark = COALESCE(mark, 0), no_counters = COALESCE(no_counters, false), bytes_orig_before = COALESCE(bytes_orig_before, 0), bytes_reply_before = COALESCE(bytes_reply_before, 0), packets_orig_before = COALESCE(packets_orig_before, 0), packets_reply_before = COALESCE(packets_reply_before, 0);
ALTER TABLE open_flows
    ALTER COLUMN dst_port SET NOT NULL,
    ALTER COLUMN zone SET NOT NULL,
    ALTER COLUMN mark SET NOT NULL,
    ALTER COLUMN no_counters SET NOT NULL,
    ALTER COLUMN bytes_orig_before SET NOT NULL,
    ALTER COLUMN bytes_reply_before SET NOT NULL,
    ALTER COLUMN packets_orig_before SET NOT NULL,
    ALTER COLUMN packets_reply_before SET NOT NULL;
