-- A transaction replayed from another server names where it came from.
CREATE PUBLICATION p FOR ALL TABLES;
CREATE TABLE t (id int PRIMARY KEY);
SELECT 1 FROM pg_replication_origin_create('elsewhere');
SELECT pg_replication_origin_session_setup('elsewhere');
BEGIN;
SELECT pg_replication_origin_xact_setup('16/B374D848', '2024-02-29 12:00:00+00');
INSERT INTO t VALUES (1);
COMMIT;
SELECT pg_replication_origin_session_reset();
INSERT INTO t VALUES (2);
SELECT pg_replication_origin_drop('elsewhere');
