-- What is zero for nearly all flows is null, and so is a dst_port that is the service_port. Rows
-- that are written out read the same, and stay as they are.
ALTER TABLE flows
    ALTER COLUMN dst_port DROP NOT NULL,
    ALTER COLUMN zone DROP NOT NULL,
    ALTER COLUMN mark DROP NOT NULL,
    ALTER COLUMN no_counters DROP NOT NULL,
    ALTER COLUMN bytes_orig_before DROP NOT NULL,
    ALTER COLUMN bytes_reply_before DROP NOT NULL,
    ALTER COLUMN packets_orig_before DROP NOT NULL,
    ALTER COLUMN packets_reply_before DROP NOT NULL;
ALTER TABLE open_flows
    ALTER COLUMN dst_port DROP NOT NULL,
    ALTER COLUMN zone DROP NOT NULL,
    ALTER COLUMN mark DROP NOT NULL,
    ALTER COLUMN no_counters DROP NOT NULL,
    ALTER COLUMN bytes_orig_before DROP NOT NULL,
    ALTER COLUMN bytes_reply_before DROP NOT NULL,
    ALTER COLUMN packets_orig_before DROP NOT NULL,
    ALTER COLUMN packets_reply_before DROP NOT NULL;
