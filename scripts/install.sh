#!/usr/bin/env bash
# Installs what is missing of: compiler, postgres, node, python, wal2json, browser, clock, pooler, deploy, chart, package, release.
# Asks the package manager only if something is, and says what and why before it does. Starts no service.
set -euo pipefail

has() { command -v "$1" >/dev/null; }

has_postgres() {
  [ -n "${PG_BIN:-}" ] || has postgres || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null
}

has_browser() {
  [ -n "${CHROMIUM:-}" ] || has chromium || has chromium-browser || has google-chrome
}

# The client's tools run on Node 20.19 or later.
has_node() { has npm && has node && node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)'; }

# Debian has the modules for environments apart from Python.
has_python() { has python3 && python3 -c 'import ensurepip, venv' 2>/dev/null; }

has_clock() { compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null; }

has_pooler() { has pgbouncer || [ -x /usr/sbin/pgbouncer ]; }

# The program that a package of Debian's brings, of those that read or run a part of deploy/.
declare -A reads_deploy=([prometheus]=promtool [nginx-light]=nginx [haproxy]=haproxy [caddy]=caddy)

# Programs that make or read Debian packages, and the Debian packages of them.
declare -A makes_package=([dpkg-shlibdeps]=dpkg-dev [lintian]=lintian [mmdebstrap]=mmdebstrap [newuidmap]=uidmap)

# Programs of PyPI that read parts of deploy/, kept beside what cargo builds.
tools=${CARGO_TARGET_DIR:-target}/deploy-tools

# Programs of crates.io that make parts of a release, and what reads them.
release_tools=${CARGO_TARGET_DIR:-target}/release-tools
cargo_deb=3.8.0
cargo_cyclonedx=0.5.9

# Whether the package lists have this; they are empty on a fresh system.
has_package() { has apt-cache && [ -n "$(apt-cache show "$1" 2>/dev/null)" ]; }

# The newest version of Debian's servers, which the tests use unless PG_BIN says otherwise; that of the package
# `postgresql` if there is none yet.
server_version() {
  local newest
  newest=$(compgen -G '/usr/lib/postgresql/*/bin/postgres' | cut -d/ -f5 | sort -n | tail -1) || true
  if [ -z "$newest" ] && has apt-cache; then
    newest=$(apt-cache depends postgresql 2>/dev/null | sed -n 's/.*Depends: postgresql-\([0-9]\+\)$/\1/p' | head -1)
  fi
  echo "$newest"
}

wal2json=
chart=
deb=
release=
packages=()
for part in "$@"; do
  case $part in
    compiler)
      has cc || { echo "walcast: no C compiler, which Rust links with: needs gcc"; packages+=(gcc libc6-dev); } ;;
    postgres)
      has_postgres || { echo "walcast: no Postgres server to run a throwaway database with: needs postgresql"; packages+=(postgresql); } ;;
    node)
      if ! has_node; then
        if has node; then
          echo "walcast: the client and the examples need Node 20.19 or later with npm, and there is $(node --version): please install it from https://nodejs.org, or from Debian 13 or Ubuntu 25.04 on by apt-get" >&2
          exit 1
        fi
        echo "walcast: no Node.js for the client and the examples: needs nodejs and npm"
        packages+=(nodejs npm)
      fi ;;
    python)
      has_python || { echo "walcast: no Python to run the examples with: needs python3 and python3-venv"; packages+=(python3 python3-venv); } ;;
    wal2json)
      [ -n "${PG_BIN:-}" ] || wal2json=yes ;;
    browser)
      has_browser || { echo "walcast: no browser to test the demo's page with: needs chromium"; packages+=(chromium); } ;;
    clock)
      # One test has no use for it where there are no such packages.
      has_clock || ! has apt-get || { echo "walcast: no clock that can be set for one program, to test with: needs libfaketime"; packages+=(libfaketime); } ;;
    pooler)
      # The same.
      has_pooler || ! has apt-get || { echo "walcast: no pooler to put before a server, to test with: needs pgbouncer"; packages+=(pgbouncer); } ;;
    deploy)
      # Without apt-get the tests leave out each part whose program is missing.
      if has apt-get; then
        for package in "${!reads_deploy[@]}"; do
          program=${reads_deploy[$package]}
          has "$program" || [ -x "/usr/sbin/$program" ] ||
            { echo "walcast: no $program to test a part of deploy/ with: needs $package"; packages+=("$package"); }
        done
      fi ;;
    chart)
      chart=yes ;;
    package)
      deb=yes
      # The same as with deploy.
      if has apt-get; then
        for program in "${!makes_package[@]}"; do
          has "$program" || {
            echo "walcast: no $program to make and test the Debian package with: needs ${makes_package[$program]}"
            packages+=("${makes_package[$program]}")
          }
        done
      fi ;;
    release)
      release=yes ;;
    *)
      echo "usage: $0 compiler|postgres|node|python|wal2json|browser|clock|pooler|deploy|chart|package|release..." >&2
      exit 2 ;;
  esac
done

# Who may install: root, or whoever has sudo.
root=()
if [ "$(id -u)" != 0 ]; then root=(sudo); fi
may_install() { has apt-get && { [ "$(id -u)" = 0 ] || has sudo; }; }

apt_install() {
  echo "walcast: running ${root[*]} apt-get install $*"
  "${root[@]}" apt-get update -qq &&
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
}

# Only tests of its own need the plugin, and not every platform has a package of it for every version: without it they say
# that they are left out.
add_wal2json() {
  local version package
  version=$(server_version)
  package="postgresql-$version-wal2json"
  if [ -e "/usr/lib/postgresql/$version/lib/wal2json.so" ]; then return; fi
  if [ -z "$version" ] || ! may_install; then
    echo "walcast: the output plugin wal2json is not installed: its tests are left out"
    return
  fi
  if ! has_package postgresql; then
    echo "walcast: running ${root[*]} apt-get update, to see whether there is a package of wal2json"
    "${root[@]}" apt-get update -qq || true
  fi
  if ! has_package "$package"; then
    echo "walcast: there is no package of the output plugin wal2json for this server: its tests are left out"
    return
  fi
  echo "walcast: no output plugin wal2json to test with: needs $package"
  apt_install "$package" || echo "walcast: that did not work: the tests of wal2json are left out"
}

# Only the tests of deploy/helm and of the image need these: without them they say that they are left out.
add_chart() {
  local wanted=tests/deploy/requirements.txt
  if cmp -s "$wanted" "$tools/complete"; then return; fi
  if ! has python3; then
    echo "walcast: there is no Python to render the Helm chart with: its test is left out"
    return
  fi
  echo "walcast: no engine of Helm's to render the chart with: installing $wanted from PyPI into $tools"
  rm -rf "$tools"
  if python3 -m venv "$tools" && "$tools/bin/pip" install --quiet --no-compile --disable-pip-version-check -r "$wanted"; then
    ln -s python "$tools/bin/chart-python"
    cp "$wanted" "$tools/complete"
  else
    rm -rf "$tools"
    echo "walcast: that did not work: the tests of the Helm chart and of the image's rules are left out"
  fi
}

# A program of crates.io, of this version. Compiled without optimisation, which takes less than half of the time.
cargo_install() {
  local crate=$1 version=$2
  if [ -e "$release_tools/$crate-$version" ]; then return; fi
  echo "walcast: no $crate $version: installing it from crates.io into $release_tools"
  cargo install --quiet --locked --debug --force --no-track --root "$release_tools" --target-dir "$release_tools/build" \
    --version "$version" "$crate" || return
  rm -rf "$release_tools/build"
  touch "$release_tools/$crate-$version"
}

# Only the test of the Debian package needs it, which says that it is left out without it.
add_package() {
  cargo_install cargo-deb "$cargo_deb" ||
    echo "walcast: that did not work: the test of the Debian package is left out"
}

# scripts/release.sh alone needs these.
add_release() {
  cargo_install cargo-cyclonedx "$cargo_cyclonedx"
  if [ ! -x "$release_tools/sbom/bin/python" ]; then
    echo "walcast: installing cyclonedx-python-lib from PyPI into $release_tools/sbom, to check the bill of materials with"
    python3 -m venv "$release_tools/sbom"
    "$release_tools/sbom/bin/pip" install --quiet --disable-pip-version-check 'cyclonedx-python-lib[json-validation]==11.12.0'
  fi
}

if [ ${#packages[@]} -gt 0 ]; then
  if ! has apt-get; then
    cat >&2 <<END
walcast: there is no apt-get here to install them with. Please install by your own package manager:
  Fedora: dnf install gcc postgresql-server nodejs chromium
  Arch:   pacman -S gcc postgresql nodejs npm chromium
  macOS:  brew install postgresql@17 node && brew install --cask google-chrome
and set PG_BIN to the directory of the server's programs if they are not in PATH, CHROMIUM to the browser's.
END
    exit 1
  fi
  may_install || { echo "walcast: not root and no sudo: please run as root: apt-get install ${packages[*]}" >&2; exit 1; }

  # The package's own script would make and start a database server on port 5432. Not on somebody's machine unasked.
  no_server=/etc/postgresql-common/createcluster.d/walcast-no-main-cluster.conf
  # Nor the other packages' services, now or when the machine starts again.
  no_start=/usr/sbin/policy-rc.d
  services=()
  for package in "${packages[@]}"; do
    case $package in
      pgbouncer | prometheus | haproxy | caddy) services+=("$package") ;;
      nginx-light) services+=(nginx) ;;
    esac
  done
  if [ ${#services[@]} = 0 ] || [ -e "$no_start" ]; then no_start=; fi
  cleanup() { "${root[@]}" rm -f "$no_server" ${no_start:+"$no_start"}; }
  trap cleanup EXIT
  if [ -n "$no_start" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$no_start" >/dev/null
    "${root[@]}" chmod 755 "$no_start"
  fi
  if [[ " ${packages[*]} " == *" postgresql "* ]]; then
    "${root[@]}" mkdir -p "${no_server%/*}"
    echo "create_main_cluster = false" | "${root[@]}" tee "$no_server" >/dev/null
  fi
  apt_install "${packages[@]}"
  if [ ${#services[@]} -gt 0 ] && has systemctl; then
    "${root[@]}" systemctl --quiet disable "${services[@]}" || true
  fi
fi

if [[ " ${packages[*]} " == *" nodejs "* ]] && ! has_node; then
  echo "walcast: this system's package is Node $(node --version), and the client needs 20.19 or later: please install it from https://nodejs.org" >&2
  exit 1
fi

if [ -n "$wal2json" ]; then add_wal2json; fi
if [ -n "$chart" ]; then add_chart; fi
if [ -n "$deb" ]; then add_package; fi
if [ -n "$release" ]; then add_release; fi
