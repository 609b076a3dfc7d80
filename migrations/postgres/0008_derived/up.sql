-- What follows from other columns is not written any more: of a reply tuple what it would be without NAT (null, beside a
-- reply_dst_ip that is not), and a kernel_start_us that is first_seen_us (0). Ended flows that are written out read the
-- same; they stay as they are until their time is over, for there may be millions of them. An earlier program would
-- misread the new form, and refuses the database for this entry.
UPDATE open_flows SET kernel_start_us = 0 WHERE kernel_start_us = first_seen_us;
UPDATE open_flows SET reply_src_port = NULL WHERE reply_src_port = dst_port;
UPDATE open_flows SET reply_dst_port = NULL WHERE reply_dst_port = src_port;
UPDATE open_flows SET reply_src_ip = NULL WHERE reply_src_ip = dst_ip;
