DROP TABLE baselines;
DROP TABLE anomaly_hits;
DROP TABLE incidents;
DROP TABLE rules;
DROP TABLE saved_queries;
