-- Values stored out of line, changed and not.
CREATE PUBLICATION p FOR ALL TABLES;
CREATE TABLE documents (id int PRIMARY KEY, title text, body text, notes text);
ALTER TABLE documents ALTER body SET STORAGE EXTERNAL;
INSERT INTO documents VALUES (1, 'a', repeat('body ', 500), NULL);
UPDATE documents SET title = 'b';
UPDATE documents SET id = 2;
UPDATE documents SET body = 'short', notes = '';
UPDATE documents SET body = repeat('again', 500);
ALTER TABLE documents REPLICA IDENTITY FULL;
UPDATE documents SET title = 'c';
DELETE FROM documents;

CREATE TABLE pages (path text PRIMARY KEY, hits int);
ALTER TABLE pages ALTER path SET STORAGE EXTERNAL;
INSERT INTO pages VALUES (repeat('/path', 450), 1);
UPDATE pages SET hits = 2;
DELETE FROM pages;
