-- The last minute whose rows are in their hour and day. Until now all that there is was written to all three.
INSERT INTO settings (key, value)
SELECT 'rolled_minute', CAST(COALESCE(MAX(minute), -1) AS TEXT) FROM (
    SELECT MAX(minute) AS minute FROM device_minutes
    UNION ALL SELECT MAX(minute) FROM service_minutes
    UNION ALL SELECT MAX(minute) FROM host_minutes
) AS part;
