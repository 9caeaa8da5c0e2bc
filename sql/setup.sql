-- Prepares a database for `walcast serve`. Run it once, as a superuser or (on managed Postgres) as the administrator
-- that the provider gave you, with psql:
--
--   psql -d shop -v tables='orders, order_items, customers' -f sql/setup.sql
--
-- Names other than the default `walcast`: -v role=… -v publication=… -v slot=…
-- It can be run again: what exists is left as it is, except that the publication gets exactly these tables.
-- Tables that are watched by more than their key: -v full='orders, …' (see below).
--
-- The server itself needs `wal_level = logical` (a restart; on managed Postgres a parameter such as
-- rds.logical_replication), and a free one of max_replication_slots and of max_wal_senders.
-- `walcast check` says what is missing. `sql/teardown.sql` undoes this script.

\set ON_ERROR_STOP on
\if :{?tables}
\else
  \warn 'name the tables to publish: -v tables=\'orders, customers\''
  DO $$ BEGIN RAISE EXCEPTION 'no tables named'; END $$;
\endif
\if :{?role}
\else
  \set role walcast
\endif
\if :{?publication}
\else
  \set publication walcast
\endif
\if :{?slot}
\else
  \set slot walcast
\endif
\if :{?full}
\else
  \set full ''
\endif

-- The role. REPLICATION lets it read the slot, SELECT lets it look at the tables. Nothing lets it write.
-- Give it a password afterwards: \password walcast
SELECT format('CREATE ROLE %I LOGIN REPLICATION', :'role')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') \gexec
GRANT SELECT ON :tables TO :"role";

-- The publication: which tables are sent. It comes before the slot, because a slot reads the publications as they were
-- at the time of each change: up to version 17, a change made before the publication existed could never be read.
-- Partitions are published as the table that they are partitions of, and generated columns, from version 18 on, with the
-- others. All in one transaction: a published table without a replica identity refuses UPDATE and DELETE.
--
-- A lock that an application has of one of the tables is waited for no longer than a part of the time after which the server
-- looks for deadlocks: else it might abort that application's transaction. The script ends then, and nothing is done; run it
-- again, at a quieter time.
BEGIN;
SELECT format('SET LOCAL lock_timeout = %s', greatest(setting::int / 4, 1)) FROM pg_settings
WHERE name = 'deadlock_timeout' \gexec
SELECT format('CREATE PUBLICATION %I', :'publication')
WHERE NOT EXISTS (SELECT FROM pg_publication WHERE pubname = :'publication') \gexec
ALTER PUBLICATION :"publication" SET TABLE :tables;
ALTER PUBLICATION :"publication" SET (publish_via_partition_root = true);
SELECT format('ALTER PUBLICATION %I SET (publish_generated_columns = stored)', :'publication')
WHERE current_setting('server_version_num')::int >= 180000 \gexec

-- The schemas of the tables, so that SELECT is of use.
SELECT DISTINCT format('GRANT USAGE ON SCHEMA %I TO %I', n.nspname, :'role')
FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid
JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE p.pubname = :'publication' \gexec

-- What the log holds of old rows is each table's own decision. With the default, the key, nobody can tell whether a row was
-- in the result of a live query over other columns before an UPDATE: such a query is refused, unless it asks for less
-- (`undecided`). With FULL the whole old row is logged, at the price of more log for each UPDATE and DELETE. Tables that are
-- watched by more than their key are named in `full`; each of their partitions needs it, also those that are made later. A
-- table without a primary key gets it in any case, since it could not be updated otherwise. FULL would have UPDATE and DELETE
-- fail where a publication, anybody's, has a column list for the table or, since version 18, leaves out generated columns:
-- those tables are left as they are, and `walcast check` says what to do for them.
CREATE TEMPORARY TABLE walcast_identities ON COMMIT DROP AS
SELECT c.oid::regclass AS name, c.relkind = 'p' OR i.indrelid IS NOT NULL AS is_optional, wanted.oid IS NOT NULL AS is_wanted,
    EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.attgenerated = 'v')
    OR EXISTS (SELECT FROM pg_publication_rel o WHERE to_jsonb(o) ->> 'prattrs' IS NOT NULL
        AND (o.prrelid = c.oid OR o.prrelid IN (SELECT relid FROM pg_partition_ancestors(c.oid))))
    OR EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.attgenerated = 's')
        AND EXISTS (SELECT FROM pg_publication o JOIN pg_publication_tables t ON t.pubname = o.pubname
            WHERE to_jsonb(o) ->> 'pubgencols' = 'n' AND (o.pubupdate OR o.pubdelete)
            AND (format('%I.%I', t.schemaname, t.tablename)::regclass = c.oid
                OR format('%I.%I', t.schemaname, t.tablename)::regclass
                    IN (SELECT relid FROM pg_partition_ancestors(c.oid)))) AS fails
FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid
CROSS JOIN LATERAL (SELECT r.prrelid AS relid UNION SELECT relid FROM pg_partition_tree(r.prrelid)) listed
JOIN pg_class c ON c.oid = listed.relid AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p'
LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indimmediate
    AND CASE WHEN c.relreplident = 'i' THEN i.indisreplident ELSE i.indisprimary END
LEFT JOIN (SELECT DISTINCT t.oid
    FROM (SELECT btrim(name)::regclass::oid AS named FROM unnest(string_to_array(:'full', ',')) name) names
    CROSS JOIN LATERAL (SELECT named AS oid UNION SELECT relid FROM pg_partition_tree(named)) t) wanted ON wanted.oid = c.oid
WHERE p.pubname = :'publication' AND c.relreplident <> 'f';
SELECT format('ALTER TABLE %s REPLICA IDENTITY FULL', name) FROM walcast_identities
WHERE NOT fails AND (is_wanted OR NOT is_optional) \gexec
SELECT format('DO $walcast$ BEGIN RAISE WARNING %L; END $walcast$', format(
    '%s keeps its replica identity: FULL would make UPDATE and DELETE fail, since a publication leaves out some of its columns%s',
    name, CASE WHEN NOT is_optional THEN '; it has none, so they fail until it has a primary key' ELSE '' END))
FROM walcast_identities WHERE fails AND (is_wanted OR NOT is_optional) \gexec
SELECT format('DO $walcast$ BEGIN RAISE WARNING %L; END $walcast$',
    format('%s stands in full but not in tables: it is left as it is', named))
FROM (SELECT btrim(name)::regclass AS named FROM unnest(string_to_array(:'full', ',')) name) names
WHERE NOT EXISTS (SELECT FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid
    CROSS JOIN LATERAL (SELECT r.prrelid AS relid UNION SELECT relid FROM pg_partition_tree(r.prrelid)) listed
    WHERE p.pubname = :'publication' AND listed.relid = named) \gexec
COMMIT;

-- The slot: from here on the server keeps its log until walcast has it on its own disk. An abandoned slot therefore
-- fills the server's disk: drop it when walcast goes for good (sql/teardown.sql), and set max_slot_wal_keep_size.
-- This waits for the transactions that are writing now. From version 17 on the slot is one that a standby can hold a copy
-- of (`failover`; the standby needs sync_replication_slots = on).
SELECT current_setting('server_version_num')::int >= 170000 AS can_fail_over \gset
\if :can_fail_over
SELECT pg_create_logical_replication_slot(:'slot', 'pgoutput', failover => true)
WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = :'slot');
\else
SELECT pg_create_logical_replication_slot(:'slot', 'pgoutput')
WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = :'slot');
\endif
