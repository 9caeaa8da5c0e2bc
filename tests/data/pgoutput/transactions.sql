-- Only what committed is sent, whole, in the order of the commits.
CREATE PUBLICATION p FOR ALL TABLES;
CREATE TABLE t (id int PRIMARY KEY, b text);
BEGIN;
INSERT INTO t VALUES (1, 'kept');
SAVEPOINT s;
INSERT INTO t VALUES (2, 'ABORTED');
ROLLBACK TO s;
INSERT INTO t VALUES (2, 'kept');
COMMIT;
BEGIN;
INSERT INTO t VALUES (3, 'ABORTED');
ROLLBACK;
INSERT INTO t VALUES (1, 'ABORTED') ON CONFLICT DO NOTHING;
INSERT INTO t VALUES (1, 'ABORTED') ON CONFLICT (id) DO UPDATE SET b = 'again';
COPY t FROM stdin (DELIMITER ',');
10,copied
11,together
12,\N
\.
-- Two commit records side by side: the end of the first is where the second starts.
BEGIN;
INSERT INTO t VALUES (20, 'prepared first');
PREPARE TRANSACTION 'first';
BEGIN;
INSERT INTO t VALUES (21, 'prepared second');
PREPARE TRANSACTION 'second';
COMMIT PREPARED 'second';
COMMIT PREPARED 'first';
CREATE TABLE made AS SELECT 1 AS n FROM generate_series(1, 2);
