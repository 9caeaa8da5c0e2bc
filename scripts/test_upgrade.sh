#!/usr/bin/env bash
# Runs the program of an earlier version against this one, and the conversations of that version:
#
#   scripts/test_upgrade.sh            of the last tag
#   scripts/test_upgrade.sh COMMIT     of a commit or another tag
#
# The earlier version is built once, into target/previous. Its dependencies are mostly those that are built already.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
  echo "walcast: $*" >&2
  exit 1
}

built=${CARGO_TARGET_DIR:-$PWD/target}
from=${1:-}
if [ -z "$from" ]; then
  from=$(git describe --tags --abbrev=0 HEAD^ 2>/dev/null) ||
    fail "there is no tag before this commit: name an earlier commit, as in make test-upgrade FROM=HEAD~50"
fi
commit=$(git rev-parse --verify --quiet "$from^{commit}") ||
  fail "there is no commit $from here: a shallow clone has only the newest (git fetch --unshallow --tags)"

scripts/install.sh compiler postgres
previous=$built/previous/$commit
if [ ! -x "$previous/walcast" ]; then
  source=$built/previous/source
  rm -rf "$source" "$previous"
  mkdir -p "$source" "$previous/draft"
  git archive "$commit" | tar -x -C "$source"
  echo "walcast: building the program of $from"
  CARGO_TARGET_DIR=$built cargo build --locked --bin walcast --manifest-path "$source/Cargo.toml"
  if [ -d "$source/tests/data/transcripts" ]; then cp -r "$source/tests/data/transcripts" "$previous/"; fi
  # Last, since it says that everything is there.
  cp "$built/debug/walcast" "$previous/draft/walcast"
  mv "$previous/draft/walcast" "$previous/walcast"
  rm -r "$source" "$previous/draft"
fi
export WALCAST_PREVIOUS=$previous/walcast
if [ -d "$previous/transcripts" ]; then export WALCAST_PREVIOUS_TRANSCRIPTS=$previous/transcripts; fi
"$WALCAST_PREVIOUS" --version
exec cargo test --locked --test it -- rolling:: conversations_of_earlier_versions
