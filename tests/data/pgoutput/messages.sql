-- Logical messages, inside transactions and outside of them; they take no place among the changes.
CREATE PUBLICATION p FOR ALL TABLES;
CREATE TABLE t (id int PRIMARY KEY);
BEGIN;
INSERT INTO t VALUES (1);
SELECT 1 FROM pg_logical_emit_message(true, 'audit', 'between two rows');
SELECT 1 FROM pg_logical_emit_message(false, 'at once', 'sent before its transaction');
INSERT INTO t VALUES (2);
COMMIT;
SELECT 1 FROM pg_logical_emit_message(false, 'binary', '\x00ff00'::bytea);
SELECT 1 FROM pg_logical_emit_message(true, '', '');
BEGIN;
SELECT 1 FROM pg_logical_emit_message(true, 'audit', 'of a rolled back transaction');
ROLLBACK;
