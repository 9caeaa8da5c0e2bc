-- Updates and deletes under each replica identity, with and without a change of the key.
CREATE PUBLICATION p FOR ALL TABLES;

CREATE TABLE by_default (a int, id int PRIMARY KEY, b text);
INSERT INTO by_default VALUES (10, 1, 'one'), (20, 2, NULL), (30, 3, '');
UPDATE by_default SET b = 'uno' WHERE id = 1;
UPDATE by_default SET id = 4 WHERE id = 1;
DELETE FROM by_default WHERE id = 2;

CREATE TABLE in_full (id int PRIMARY KEY, b text);
ALTER TABLE in_full REPLICA IDENTITY FULL;
INSERT INTO in_full VALUES (1, 'one'), (2, NULL);
UPDATE in_full SET b = 'uno' WHERE id = 1;
UPDATE in_full SET id = 3 WHERE id = 2;
UPDATE in_full SET b = b WHERE id = 3;
DELETE FROM in_full;

CREATE TABLE by_index (id int PRIMARY KEY, slug text NOT NULL UNIQUE, b text);
ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_slug_key;
INSERT INTO by_index VALUES (1, 'one', 'x');
UPDATE by_index SET id = 2;
UPDATE by_index SET slug = 'two';
DELETE FROM by_index;

CREATE TABLE by_two (region text, n int, b text, PRIMARY KEY (n, region));
INSERT INTO by_two VALUES ('eu', 1, 'x');
UPDATE by_two SET region = 'us';
DELETE FROM by_two;

CREATE TABLE by_nothing (id int PRIMARY KEY);
ALTER TABLE by_nothing REPLICA IDENTITY NOTHING;
INSERT INTO by_nothing VALUES (1);
CREATE TABLE without_key (b text);
INSERT INTO without_key VALUES ('x');
