#!/usr/bin/env bash
# Makes every artefact of a release from a tag, and their checksums. docs/releasing.md says what they are.
#
#   scripts/release.sh TAG                            only looks whether the tag can be released
#   scripts/release.sh TAG DIRECTORY                  makes the artefacts in the directory, which is new or empty
#   scripts/release.sh --without-musl TAG DIRECTORY   on a machine without Rust's target x86_64-unknown-linux-musl
#
# The tag is v and the version, and is checked out. DEBFULLNAME and DEBEMAIL name the maintainer of the Debian package.
set -euo pipefail
export LC_ALL=C
umask 022
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"

usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
refuse() { echo "release: $*" >&2; exit 1; }

musl=yes
if [ "${1:-}" = --without-musl ]; then musl=; shift; fi
{ [ $# = 1 ] || [ $# = 2 ]; } && [ -n "$1" ] || usage
tag=$1
directory=${2:-}

# What is released is what is tagged.
[ -z "$(git status --porcelain)" ] || refuse "the work tree has changes that are not committed: commit or stash them"
git rev-parse -q --verify "refs/tags/$tag" >/dev/null || refuse "there is no tag \"$tag\": git tag -s $tag"
commit=$(git rev-parse "refs/tags/$tag^{commit}")
[ "$commit" = "$(git rev-parse HEAD)" ] || refuse "the tag \"$tag\" is not checked out: git checkout $tag"

# One version everywhere.
version=${tag#v}
[ "$tag" = "v$version" ] || refuse "the tag \"$tag\" is no version: it begins with v, as in v0.1.0"
named() {
  [ "$2" = "$version" ] || refuse "$1 has version \"$2\", and the tag is \"$tag\": make them the same, commit, and tag again"
}
first() { sed -n "$2" "$1" | head -n 1; }
named Cargo.toml "$(first Cargo.toml 's/^version = "\(.*\)"$/\1/p')"
named Cargo.lock "$(first Cargo.lock '/^name = "walcast"$/{n;s/^version = "\(.*\)"$/\1/p}')"
named client/package.json "$(first client/package.json 's/^  "version": "\(.*\)",$/\1/p')"
named client/package-lock.json "$(first client/package-lock.json 's/^  "version": "\(.*\)",$/\1/p')"
named create-walcast/package.json "$(first create-walcast/package.json 's/^  "version": "\(.*\)",$/\1/p')"
# An application that create-walcast makes asks npm for this client.
for example in $(git ls-files 'examples/*/package.json'); do
  named "$example (@walcast/client)" "$(first "$example" 's/^ *"@walcast\/client": "^\(.*\)",$/\1/p')"
done
chart=deploy/helm/walcast/Chart.yaml
named "$chart (version)" "$(first $chart 's/^version: "\{0,1\}\([^"]*\)"\{0,1\}$/\1/p')"
named "$chart (appVersion)" "$(first $chart 's/^appVersion: "\{0,1\}\([^"]*\)"\{0,1\}$/\1/p')"
grep -qE "^## \[${version//./\\.}\] - [0-9]{4}-[0-9]{2}-[0-9]{2}$" CHANGELOG.md ||
  refuse "CHANGELOG.md has no section \"## [$version] - YYYY-MM-DD\": give the unreleased changes this title"
if [ -z "$directory" ]; then
  echo "release: $tag can be released"
  exit
fi

musl_target=x86_64-unknown-linux-musl
if [ -n "$musl" ]; then
  [ -d "$(rustc --print target-libdir --target $musl_target)" ] && command -v musl-gcc >/dev/null ||
    refuse "no target $musl_target here: rustup target add $musl_target && apt-get install musl-tools (or say --without-musl)"
fi
mkdir -p "$directory"
directory=$(realpath "$directory")
[ -z "$(ls -A "$directory")" ] || refuse "$directory is not empty"
scripts/install.sh compiler node package release
built=$(realpath -m "${CARGO_TARGET_DIR:-target}")
tools=$built/release-tools
export PATH="$tools/bin:$PATH"

# The tag's files alone, at a place of their own.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/walcast"
git archive "$commit" | tar -x -C "$work/walcast"
cd "$work/walcast"

# What makes a build say the same wherever and whenever it is made: times, and the paths of sources, some of which are written
# by build scripts.
SOURCE_DATE_EPOCH=$(git -C "$root" log -1 --format=%ct "$commit")
export SOURCE_DATE_EPOCH
WALCAST_COMMIT=$(git -C "$root" rev-parse --short=12 "$commit")
export WALCAST_COMMIT
export CARGO_TARGET_DIR=$built/release-build
crate=$work/walcast-$version
cargo_home=${CARGO_HOME:-$HOME/.cargo}
RUSTFLAGS="--remap-path-prefix=$crate=/walcast --remap-path-prefix=$CARGO_TARGET_DIR=/target"
export RUSTFLAGS="$RUSTFLAGS --remap-path-prefix=$cargo_home=/cargo -C link-arg=-Wl,--build-id=sha1"
export CFLAGS="-ffile-prefix-map=$cargo_home=/cargo"

# The crate. The programs are built from it, so it lacks nothing.
cargo package --locked --no-verify
cp "$CARGO_TARGET_DIR/package/walcast-$version.crate" "$directory"
tar -xzf "$directory/walcast-$version.crate" -C "$work"

# An archive that depends on nothing but its files.
archive() {
  tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --dereference -C "$1" -cf - "$2" |
    gzip -9n >"$3"
}

# The program for one target, with what belongs to it; its debug symbols apart.
program() {
  local target=$1 name="walcast-$version-$1" place
  place="$work/$name"
  (cd "$crate" && cargo build --release --locked --bin walcast --target "$target")
  mkdir -p "$place/systemd" "$place/sql"
  objcopy --only-keep-debug --compress-debug-sections "$CARGO_TARGET_DIR/$target/release/walcast" "$directory/$name.debug"
  chmod 644 "$directory/$name.debug"
  objcopy --strip-all --add-gnu-debuglink="$directory/$name.debug" "$CARGO_TARGET_DIR/$target/release/walcast" "$place/walcast"
  scripts/manual.sh "$place/walcast" "$place"
  scripts/third-party.py >"$place/THIRD-PARTY.txt"
  cp -r README.md CHANGELOG.md SECURITY.md LICENSE-MIT LICENSE-APACHE docs "$place"
  cp sql/setup.sql sql/teardown.sql "$place/sql"
  cp deploy/systemd/walcast.service deploy/debian/walcast.toml "$place/systemd"
  archive "$work" "$name" "$directory/$name.tar.gz"
}

is_static() {
  ! readelf --program-headers --wide "$1" | grep -q INTERP && ! readelf --dynamic --wide "$1" | grep -q NEEDED
}

program x86_64-unknown-linux-gnu
CARGO_TARGET_DIR=$built scripts/deb.sh "$CARGO_TARGET_DIR/x86_64-unknown-linux-gnu/release/walcast" "$directory"
lintian --allow-root --suppress-tags bogus-mail-host,bogus-mail-host-in-debian-changelog --fail-on error,warning \
  "$directory"/*.deb
if [ -n "$musl" ]; then
  program $musl_target
  is_static "$work/walcast-$version-$musl_target/walcast" || refuse "the program for $musl_target is not static"
else
  echo "release: without a static program, as you said"
fi

# The bill of materials.
cargo cyclonedx --format json --spec-version 1.5 --target x86_64-unknown-linux-gnu --no-build-deps \
  --override-filename "walcast-$version.cdx"
sed -i "s|path+file://$work/|path+file:///|g" "walcast-$version.cdx.json"
"$tools/sbom/bin/python" scripts/sbom.py "walcast-$version.cdx.json"
mv "walcast-$version.cdx.json" "$directory"

# The chart. Its rules are links to those of deploy/prometheus.
archive deploy/helm walcast "$directory/walcast-chart-$version.tgz"

# The npm packages. The script that the program embeds is part of the repository: it has to be what the sources give.
cp client/dist/client.min.js "$work/client.min.js"
(cd client && npm ci --no-audit --no-fund && npm run build && npm pack --pack-destination "$directory")
cmp client/dist/client.min.js "$work/client.min.js" ||
  refuse "client/dist/client.min.js is not what the sources give: npm run build in client/, commit, and tag again"
# Its template is of the files that git knows, which are those of the tag.
(cd create-walcast && GIT_DIR=$(git -C "$root" rev-parse --absolute-git-dir) GIT_WORK_TREE=$work/walcast npm pack --pack-destination "$directory")

cd "$directory"
sha256sum -- * >"$work/SHA256SUMS"
mv "$work/SHA256SUMS" .
echo "release: $tag is in $directory:"
cat SHA256SUMS
