-- One statement that empties several tables is one message; each table is a change.
CREATE PUBLICATION p FOR ALL TABLES;
CREATE TABLE customers (id serial PRIMARY KEY, name text);
CREATE TABLE orders (id serial PRIMARY KEY, customer int REFERENCES customers);
CREATE TABLE lines (id serial PRIMARY KEY, item int REFERENCES orders);
CREATE TABLE alone (id int PRIMARY KEY);
INSERT INTO customers (name) VALUES ('ann');
TRUNCATE alone;
TRUNCATE customers CASCADE;
BEGIN;
INSERT INTO alone VALUES (1);
TRUNCATE alone, lines RESTART IDENTITY;
INSERT INTO alone VALUES (2);
TRUNCATE customers, alone RESTART IDENTITY CASCADE;
INSERT INTO customers (name) VALUES ('bob');
COMMIT;
