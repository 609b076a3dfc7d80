DROP TABLE host_whois;
DROP TABLE host_names;
