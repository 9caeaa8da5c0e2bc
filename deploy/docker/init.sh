#!/bin/bash
# Run once by the image of Postgres, when it has made its database: a table to look at, and what walcast needs.
set -euo pipefail
psql -v ON_ERROR_STOP=1 -U postgres -d "$POSTGRES_DB" -c \
  "CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, status text NOT NULL, amount numeric NOT NULL)"
psql -U postgres -d "$POSTGRES_DB" -v tables=orders -v full=orders -f "${WALCAST_SETUP:-/walcast/setup.sql}"
# \getenv is there from psql 14 on.
psql -v ON_ERROR_STOP=1 -U postgres -d "$POSTGRES_DB" <<'SQL'
\getenv password WALCAST_PASSWORD
ALTER ROLE walcast PASSWORD :'password';
SQL
