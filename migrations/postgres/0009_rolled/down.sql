-- What waits goes into its hour and day.
INSERT INTO device_hours (hour, router_id, device_id, flows, bytes_orig, bytes_reply, packets_orig, packets_reply)
SELECT minute / 60, router_id, device_id, CAST(SUM(flows) AS BIGINT), CAST(SUM(bytes_orig) AS BIGINT), CAST(SUM(bytes_reply) AS BIGINT), CAST(SUM(packets_orig) AS BIGINT), CAST(SUM(packets_reply) AS BIGINT)
FROM device_minutes WHERE minute > (SELECT CAST(value AS BIGINT) FROM settings WHERE key = 'rolled_minute')
GROUP BY 1, 2, 3
ON CONFLICT (hour, router_id, device_id) DO UPDATE SET flows = device_hours.flows + excluded.flows, bytes_orig = device_hours.bytes_orig + excluded.bytes_orig, bytes_reply = device_hours.bytes_reply + excluded.bytes_reply, packets_orig = device_hours.packets_orig + excluded.packets_orig, packets_reply = device_hours.packets_reply + excluded.packets_reply;
INSERT INTO device_days (day, router_id, device_id, flows, bytes_orig, bytes_reply, packets_orig, packets_reply)
SELECT minute / 1440, router_id, device_id, CAST(SUM(flows) AS BIGINT), CAST(SUM(bytes_orig) AS BIGINT), CAST(SUM(bytes_reply) AS BIGINT), CAST(SUM(packets_orig) AS BIGINT), CAST(SUM(packets_reply) AS BIGINT)
FROM device_minutes WHERE minute > (SELECT CAST(value AS BIGINT) FROM settings WHERE key = 'rolled_minute')
GROUP BY 1, 2, 3
ON CONFLICT (day, router_id, device_id) DO UPDATE SET flows = device_days.flows + excluded.flows, bytes_orig = device_days.bytes_orig + excluded.bytes_orig, bytes_reply = device_days.bytes_reply + excluded.bytes_reply, packets_orig = device_days.packets_orig + excluded.packets_orig, packets_reply = device_days.packets_reply + excluded.packets_reply;
INSERT INTO service_hours (hour, router_id, protocol, port, flows, bytes_orig, bytes_reply, packets_orig, packets_reply)
SELECT minute / 60, router_id, protocol, port, CAST(SUM(flows) AS BIGINT), CAST(SUM(bytes_orig) AS BIGINT), CAST(SUM(bytes_reply) AS BIGINT), CAST(SUM(packets_orig) AS BIGINT), CAST(SUM(packets_reply) AS BIGINT)
FROM service_minutes WHERE minute > (SELECT CAST(value AS BIGINT) FROM settings WHERE key = 'rolled_minute')
GROUP BY 1, 2, 3, 4
ON CONFLICT (hour, router_id, protocol, port) DO UPDATE SET flows = service_hours.flows + excluded.flows, bytes_orig = service_hours.bytes_orig + excluded.bytes_orig, bytes_reply = service_hours.bytes_reply + excluded.bytes_reply, packets_orig = service_hours.packets_orig + excluded.packets_orig, packets_reply = service_hours.packets_reply + excluded.packets_reply;
INSERT INTO service_days (day, router_id, protocol, port, flows, bytes_orig, bytes_reply, packets_orig, packets_reply)
SELECT minute / 1440, router_id, protocol, port, CAST(SUM(flows) AS BIGINT), CAST(SUM(bytes_orig) AS BIGINT), CAST(SUM(bytes_reply) AS BIGINT), CAST(SUM(packets_orig) AS BIGINT), CAST(SUM(packets_reply) AS BIGINT)
FROM service_minutes WHERE minute > (SELECT CAST(value AS BIGINT) FROM settings WHERE key = 'rolled_minute')
GROUP BY 1, 2, 3, 4
ON CONFLICT (day, router_id, protocol, port) DO UPDATE SET flows = service_days.flows + excluded.flows, bytes_orig = service_days.bytes_orig + excluded.bytes_orig, bytes_reply = service_days.bytes_reply + excluded.bytes_reply, packets_orig = service_days.packets_orig + excluded.packets_orig, packets_reply = service_days.packets_reply + excluded.packets_reply;
INSERT INTO host_hours (hour, router_id, host_id, flows, bytes_orig, bytes_reply, packets_orig, packets_reply)
SELECT minute / 60, router_id, host_id, CAST(SUM(flows) AS BIGINT), CAST(SUM(bytes_orig) AS BIGINT), CAST(SUM(bytes_reply) AS BIGINT), CAST(SUM(packets_orig) AS BIGINT), CAST(SUM(packets_reply) AS BIGINT)
FROM host_minutes WHERE minute > (SELECT CAST(value AS BIGINT) FROM settings WHERE key = 'rolled_minute')
GROUP BY 1, 2, 3
ON CONFLICT (hour, router_id, host_id) DO UPDATE SET flows = host_hours.flows + excluded.flows, bytes_orig = host_hours.bytes_orig + excluded.bytes_orig, bytes_reply = host_hours.bytes_reply + excluded.bytes_reply, packets_orig = host_hours.packets_orig + excluded.packets_orig, packets_reply = host_hours.packets_reply + excluded.packets_reply;
INSERT INTO host_days (day, router_id, host_id, flows, bytes_orig, bytes_reply, packets_orig, packets_reply)
SELECT minute / 1440, router_id, host_id, CAST(SUM(flows) AS BIGINT), CAST(SUM(bytes_orig) AS BIGINT), CAST(SUM(bytes_reply) AS BIGINT), CAST(SUM(packets_orig) AS BIGINT), CAST(SUM(packets_reply) AS BIGINT)
FROM host_minutes WHERE minute > (SELECT CAST(value AS BIGINT) FROM settings WHERE key = 'rolled_minute')
GROUP BY 1, 2, 3
ON CONFLICT (day, router_id, host_id) DO UPDATE SET flows = host_days.flows + excluded.flows, bytes_orig = host_days.bytes_orig + excluded.bytes_orig, bytes_reply = host_days.bytes_reply + excluded.bytes_reply, packets_orig = host_days.packets_orig + excluded.packets_orig, packets_reply = host_days.packets_reply + excluded.packets_reply;
DELETE FROM settings WHERE key = 'rolled_minute';
