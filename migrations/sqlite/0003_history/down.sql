DROP TABLE removed_sums;
DROP TABLE host_days;
DROP TABLE host_hours;
DROP TABLE host_minutes;
DROP TABLE service_days;
DROP TABLE service_hours;
DROP TABLE device_days;
DROP TABLE device_hours;
