#!/usr/bin/env bash
# Writes what packages install beside the program: scripts/manual.sh PROGRAM DIRECTORY.
# man/walcast.1.gz and one page for each command; walcast.bash, _walcast (zsh) and walcast.fish.
set -euo pipefail
program=$1
directory=$2
"$program" man "$directory/man"
gzip -9n "$directory"/man/*.1
"$program" completions bash >"$directory/walcast.bash"
"$program" completions zsh >"$directory/_walcast"
"$program" completions fish >"$directory/walcast.fish"
