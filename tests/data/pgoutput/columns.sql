-- A table's columns are those that are published: not the dropped, not the generated, perhaps none.
CREATE PUBLICATION p FOR ALL TABLES;
CREATE TABLE nothing ();
INSERT INTO nothing DEFAULT VALUES;
TRUNCATE nothing;
CREATE TABLE t (id int PRIMARY KEY, gone text, double int GENERATED ALWAYS AS (id * 2) STORED, b text DEFAULT 'b');
ALTER TABLE t DROP gone;
INSERT INTO t (id) VALUES (1);
UPDATE t SET b = NULL;
DELETE FROM t;
