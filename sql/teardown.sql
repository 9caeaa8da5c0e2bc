-- Undoes sql/setup.sql, after walcast has been stopped:
--
--   psql -d shop -f sql/teardown.sql
--
-- Names other than the default `walcast`: -v role=… -v publication=… -v slot=…

\set ON_ERROR_STOP on
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

-- The slot first: it is what keeps the server's log.
SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = :'slot';
DROP PUBLICATION IF EXISTS :"publication";

-- The role's rights in this database, then the role. If it has rights in other databases too, DROP ROLE says which:
-- run this there first.
SELECT format('DROP OWNED BY %I', rolname) FROM pg_roles WHERE rolname = :'role' \gexec
DROP ROLE IF EXISTS :"role";
