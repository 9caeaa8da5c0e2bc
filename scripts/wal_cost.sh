#!/usr/bin/env bash
# Prints the WAL that an UPDATE and a DELETE of a row write under each replica identity, in bytes for a row:
#
#   scripts/wal_cost.sh -d shop          psql's options say which database; it makes a schema of its own, and drops it
#   scripts/wal_cost.sh --throwaway      on a server of its own, with the Postgres that is installed
#
# Rows: narrow (four columns, about 40 bytes), wide (30 columns, about 1 KB) and long (one value of 20 KB out of line,
# which the UPDATE leaves as it is). The server needs wal_level = logical: otherwise identities cost nothing.
set -euo pipefail

rows=${ROWS:-1000}

if [ "${1:-}" = --throwaway ]; then
  shift
  bin=${PG_BIN:-$(compgen -G '/usr/lib/postgresql/*/bin' | sort -V | tail -1)}
  directory=$(mktemp -d /tmp/walcast-wal-cost-XXXXXX)
  as=()
  if [ "$(id -u)" = 0 ]; then
    chown postgres "$directory"
    as=(runuser -u postgres --)
  fi
  cleanup() {
    "${as[@]}" "$bin/pg_ctl" -D "$directory/data" -m immediate stop >/dev/null 2>&1 || true
    rm -rf "$directory"
  }
  trap cleanup EXIT
  cd /
  "${as[@]}" "$bin/initdb" -D "$directory/data" -U postgres -A trust >/dev/null
  "${as[@]}" "$bin/pg_ctl" -D "$directory/data" -w -l "$directory/log" \
    -o "-c wal_level=logical -c listen_addresses='' -c unix_socket_directories='$directory' -c max_wal_size=8GB" start >/dev/null
  set -- -h "$directory" -U postgres -d postgres "$@"
fi

psql -X -q -v ON_ERROR_STOP=1 -v rows="$rows" "$@" <<'SQL'
SET client_min_messages = warning;
SELECT current_setting('wal_level') = 'logical' AS is_logical \gset
\if :is_logical
\else
  \warn 'wal_level is not logical: replica identities cost nothing'
\endif
DROP SCHEMA IF EXISTS walcast_wal_cost CASCADE;
CREATE SCHEMA walcast_wal_cost;
SET search_path = walcast_wal_cost;
SET walcast.rows = :rows;
CREATE TABLE costs (number serial, row_kind text, identity text, operation text, bytes numeric);

-- One measurement. The table was made since the last checkpoint, so no full page is part of it. Its pages have room, so
-- an UPDATE of no indexed column touches no index.
CREATE FUNCTION measure(kind text, columns text, value text, identity text, operation text, change text, rows int)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  begun pg_lsn;
BEGIN
  EXECUTE 'DROP TABLE IF EXISTS t';
  EXECUTE format('CREATE TABLE t (id bigint PRIMARY KEY, code uuid NOT NULL, n int, %s) WITH (fillfactor = 40)', columns);
  EXECUTE 'CREATE UNIQUE INDEX by_code ON t (code)';
  IF kind = 'long' THEN
    ALTER TABLE t ALTER body SET STORAGE EXTERNAL;
  END IF;
  EXECUTE 'ALTER TABLE t REPLICA IDENTITY ' || identity;
  EXECUTE format('INSERT INTO t SELECT g, gen_random_uuid(), 0, %s FROM generate_series(1, %s) g', value, rows);
  begun := pg_current_wal_insert_lsn();
  EXECUTE change;
  INSERT INTO costs (row_kind, identity, operation, bytes)
  VALUES (kind, identity, operation, round((pg_current_wal_insert_lsn() - begun) / rows, 0));
END $$;

CHECKPOINT;
DO $$ BEGIN
  PERFORM measure(kind, columns, value, identity, operation, change, current_setting('walcast.rows')::int)
  FROM (VALUES
      ('narrow', 'state text', $v$'new'$v$),
      ('wide', (SELECT string_agg(format('c%s text', i), ', ') FROM generate_series(1, 27) i),
        (SELECT string_agg(format('%L', repeat('x', 36)), ', ') FROM generate_series(1, 27) i)),
      ('long', 'body text', $v$repeat('x', 20000)$v$)
    ) rows (kind, columns, value),
    (VALUES ('DEFAULT'), ('USING INDEX by_code'), ('FULL')) identities (identity),
    (VALUES
      ('UPDATE of another column', 'UPDATE t SET n = n + 1'),
      ('UPDATE of the primary key', 'UPDATE t SET id = -id'),
      ('DELETE', 'DELETE FROM t')
    ) operations (operation, change);
END $$;

SELECT row_kind AS "row", operation,
  max(bytes) FILTER (WHERE identity = 'DEFAULT') AS "DEFAULT",
  max(bytes) FILTER (WHERE identity LIKE 'USING%') AS "USING INDEX",
  max(bytes) FILTER (WHERE identity = 'FULL') AS "FULL"
FROM costs GROUP BY row_kind, operation ORDER BY min(number);
DROP SCHEMA walcast_wal_cost CASCADE;
SQL
