UPDATE open_flows SET reply_src_ip = dst_ip WHERE reply_dst_ip IS NOT NULL AND reply_src_ip IS NULL;
UPDATE open_flows SET reply_dst_port = src_port WHERE reply_dst_ip IS NOT NULL AND reply_dst_port IS NULL;
UPDATE open_flows SET reply_src_port = dst_port WHERE reply_dst_ip IS NOT NULL AND reply_src_port IS NULL;
UPDATE open_flows SET kernel_start_us = first_seen_us WHERE kernel_start_us = 0;
UPDATE flows SET reply_src_ip = dst_ip WHERE reply_dst_ip IS NOT NULL AND reply_src_ip IS NULL;
UPDATE flows SET reply_dst_port = src_port WHERE reply_dst_ip IS NOT NULL AND reply_dst_port IS NULL;
UPDATE flows SET reply_src_port = dst_port WHERE reply_dst_ip IS NOT NULL AND reply_src_port IS NULL;
UPDATE flows SET kernel_start_us = first_seen_us WHERE kernel_start_us = 0;
