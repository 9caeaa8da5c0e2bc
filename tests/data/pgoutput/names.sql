-- Names are what they are: quotes, dots, blanks, other scripts, and the two pairs that a dot would join alike.
CREATE PUBLICATION p FOR ALL TABLES;
CREATE SCHEMA "We""ird S";
CREATE TABLE "We""ird S"."T .""t" ("Id" int PRIMARY KEY, "column one" text, "naïve 名前" text, "select" text);
INSERT INTO "We""ird S"."T .""t" VALUES (1, 'a', 'b', 'c');
CREATE SCHEMA "a.b";
CREATE SCHEMA a;
CREATE TABLE "a.b".c (id int PRIMARY KEY);
CREATE TABLE a."b.c" (id int PRIMARY KEY);
INSERT INTO "a.b".c VALUES (1);
INSERT INTO a."b.c" VALUES (2);
CREATE TABLE this_name_is_as_long_as_a_name_can_be_in_a_server_sixty_three_b (id int PRIMARY KEY);
INSERT INTO this_name_is_as_long_as_a_name_can_be_in_a_server_sixty_three_b VALUES (3);
