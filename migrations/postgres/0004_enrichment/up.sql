-- What is known of remote hosts from elsewhere. Beside remote_hosts and not in it: that table is written with
-- every commit, these by jobs in the background.

-- Names by reverse DNS. name is null where there is none; due_us says when to ask again.
CREATE TABLE host_names (
    host_id BIGINT NOT NULL PRIMARY KEY REFERENCES remote_hosts (id) ON DELETE CASCADE,
    name TEXT,
    asked_us BIGINT NOT NULL,
    due_us BIGINT NOT NULL
);
CREATE INDEX host_names_by_due ON host_names (due_us);

-- What whois said, when somebody asked for it.
CREATE TABLE host_whois (
    host_id BIGINT NOT NULL PRIMARY KEY REFERENCES remote_hosts (id) ON DELETE CASCADE,
    answer TEXT NOT NULL,
    asked_us BIGINT NOT NULL
);
