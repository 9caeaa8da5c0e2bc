-- Types of our own come with a Type message, and every value as text.
CREATE PUBLICATION p FOR ALL TABLES;
CREATE TYPE mood AS ENUM ('sad', 'so so', 'happy');
CREATE DOMAIN email AS text CHECK (VALUE LIKE '%@%');
CREATE TYPE point3 AS (x int, y int, label text);
CREATE TABLE people (
    id bigint PRIMARY KEY,
    feeling mood,
    feelings mood[],
    mail email,
    place point3,
    code character varying(20),
    price numeric(10, 2),
    fixed character(5)
);
INSERT INTO people VALUES
    (9223372036854775807, 'so so', '{sad,"so so"}', 'ann@example.org', '(1,,"a b")', 'x', 1.5, 'ab');
INSERT INTO people (id) VALUES (-1);

CREATE TABLE built_in (
    b bool, i2 int2, f4 float4, f8 float8, n numeric, t text, bin bytea, d date, ti time, tz timestamptz, ts timestamp,
    iv interval, u uuid, j json, jb jsonb, ints int[], texts text[], r int4range, ip inet, m money, bits varbit,
    id oid, c "char", v tsvector
);
INSERT INTO built_in VALUES (
    true, -32768, 1.1, 'NaN', 'Infinity', E'tab\t, newline\n, quote \', backslash \\ and 雪 🐘', '\xdeadbeef', '2024-02-29',
    '23:59:59.999999', '2024-02-29 12:00:00.5+02', 'infinity', '1 year 2 mons 3 days 04:05:06.7',
    'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{"a" : 1}', '{"b": [1, null]}', '{{1,2},{3,NULL}}',
    '{"a,b","NULL",NULL,"\"q\""}', '[1,5)', '::1/128', 12.34, B'101', 4294967295, 'z', 'cat:3 fat'
);
