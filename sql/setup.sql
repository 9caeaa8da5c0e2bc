-- Prepares a database for `walcast serve`. Run it once, as a superuser or (on managed Postgres) as the administrator
-- that the provider gave you, with psql:
--
--   psql -d shop -v tables='orders, order_items, customers' -v full='orders' -f sql/setup.sql
--
-- The tables named in `full`, which may be left out, can be watched by all of their columns (see the end).
-- Names other than the default `walcast`: -v role=… -v publication=… -v slot=…
-- It can be run again: what exists is left as it is, except that the publication gets exactly these tables.
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

-- The role. REPLICATION lets it read the slot, SELECT lets it look at the tables. Nothing lets it write.
-- Give it a password afterwards: \password walcast
SELECT format('CREATE ROLE %I LOGIN REPLICATION', :'role')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') \gexec
GRANT SELECT ON :tables TO :"role";

-- The publication: which tables are sent. It comes before the slot, because a slot reads the publications as they were
-- at the time of each change: up to version 17, a change made before the publication existed could never be read.
SELECT format('CREATE PUBLICATION %I', :'publication')
WHERE NOT EXISTS (SELECT FROM pg_publication WHERE pubname = :'publication') \gexec
ALTER PUBLICATION :"publication" SET TABLE :tables;

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

-- What the log holds of old rows is each table's own decision. With the default, the key, nobody can tell whether a row was
-- in the result of a live query over other columns before an UPDATE: such a query is refused, unless it asks for less
-- (`undecided`). With FULL the whole old row is logged, at the price of more log for each UPDATE and DELETE. Tables that are
-- watched by more than their key are named in -v full='orders, …'; each of their partitions needs it, also those that are
-- made later. Since version 18 it would have UPDATE and DELETE fail where there are generated columns that are not
-- published: `walcast check` says what to do for these.
\if :{?full}
CREATE TEMP TABLE walcast_full AS
SELECT t.oid, current_setting('server_version_num')::int >= 180000 AND EXISTS (
    SELECT FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attgenerated <> '' AND NOT a.attisdropped) AS fails
FROM (SELECT btrim(name)::regclass::oid AS named FROM unnest(string_to_array(:'full', ',')) name) names
CROSS JOIN LATERAL (SELECT named AS oid UNION SELECT relid FROM pg_partition_tree(named)) t
JOIN pg_class c ON c.oid = t.oid AND c.relkind IN ('r', 'p') AND c.relreplident <> 'f';
SELECT format('ALTER TABLE %s REPLICA IDENTITY FULL', oid::regclass) FROM walcast_full WHERE NOT fails \gexec
SELECT count(*) > 0 AS some_fail, string_agg(oid::regclass::text, ', ') AS failing FROM walcast_full WHERE fails \gset
DROP TABLE walcast_full;
\if :some_fail
  \warn 'left as they are, because of generated columns: ' :failing
\endif
\endif
