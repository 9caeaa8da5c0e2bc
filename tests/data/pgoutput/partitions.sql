-- Partitions under their own names, then under their root's.
CREATE PUBLICATION p FOR ALL TABLES;
CREATE TABLE parted (id int PRIMARY KEY, b text) PARTITION BY RANGE (id);
CREATE TABLE low PARTITION OF parted FOR VALUES FROM (0) TO (100);
CREATE TABLE high (b text, id int NOT NULL);
ALTER TABLE parted ATTACH PARTITION high FOR VALUES FROM (100) TO (200);
INSERT INTO parted VALUES (1, 'low'), (101, 'high');
UPDATE parted SET id = 102 WHERE id = 1;
TRUNCATE parted;
ALTER PUBLICATION p SET (publish_via_partition_root = true);
INSERT INTO parted VALUES (2, 'low'), (103, 'high');
UPDATE parted SET b = 'HIGH' WHERE id = 103;
UPDATE parted SET id = 104 WHERE id = 2;
TRUNCATE parted;
