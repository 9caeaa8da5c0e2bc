#!/usr/bin/env bash
# Makes the Debian package of a program that is built already, as [package.metadata.deb] of Cargo.toml says, and prints its path:
#
#   scripts/deb.sh PROGRAM DIRECTORY [VERSION [FLAG...]]
#
# PROGRAM      the program, which has to run here: it writes its manual and completions
# DIRECTORY    for the package, and for one of the program's debug symbols if it has any
# VERSION      Debian's; without it, or empty, that of Cargo.toml
# FLAG         a flag of cargo-deb, --fast for example
#
# DEBFULLNAME and DEBEMAIL name the maintainer, and SOURCE_DATE_EPOCH is the time of all files. cargo-deb is that of
# `scripts/install.sh package`, or the one in PATH.
set -euo pipefail
program=$(realpath "$1")
directory=$(realpath "$2")
version=${3:-}
shift $(($# < 3 ? $# : 3))
cd "$(dirname "$0")/.."

tools=$(realpath -m "${CARGO_TARGET_DIR:-target}")/release-tools
export PATH="$tools/bin:$PATH"
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(date +%s)}
maintainer="${DEBFULLNAME:-The walcast developers} <${DEBEMAIL:-walcast@localhost}>"
if [ -z "$version" ]; then
  # A version such as 1.0.0-rc.1 comes before 1.0.0, for which Debian has the tilde.
  version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -1)
  version=${version/-/\~}-1
fi

# cargo-deb takes what is built from here.
built=$(mktemp -d)
trap 'rm -rf "$built"' EXIT
package=$built/release/package
mkdir -p "$package"
cp "$program" "$built/release/walcast"
scripts/manual.sh "$program" "$package"
scripts/third-party.py >"$package/THIRD-PARTY.txt"
gzip -9n >"$package/changelog.Debian.gz" <<TEXT
walcast ($version) stable; urgency=medium

  * /usr/share/doc/walcast/changelog.gz has the changes.

 -- $maintainer  $(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")
TEXT

CARGO_TARGET_DIR=$built cargo-deb --quiet --no-build --locked --offline --dbgsym --maintainer "$maintainer" \
  --deb-version "$version" --output "$directory" "$@" | grep '\.deb$'
