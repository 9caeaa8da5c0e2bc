#!/usr/bin/env python3
"""Prints the licenses of the crates that are linked into walcast on Linux, and of what its console has, with their texts, which
most ask to be passed on.

Asks `cargo metadata`, without the network: the crates' sources have to be there, as they are after a build.
"""

import json
import pathlib
import subprocess
import sys

TARGET = "x86_64-unknown-linux-gnu"
CONSOLE = pathlib.Path(__file__).parent.parent / "console/dist/licenses.txt"
ASK = ["cargo", "metadata", "--format-version=1", "--locked", "--offline", f"--filter-platform={TARGET}"]


def linked(metadata):
    """The packages that the program is built from, without itself, tests, build scripts and macros."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    macros = {p["id"] for p in metadata["packages"] if any("proc-macro" in t["kind"] for t in p["targets"])}
    root = metadata["resolve"]["root"]
    found, waiting = set(), [root]
    while waiting:
        for dependency in nodes[waiting.pop()]["deps"]:
            is_linked = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            if is_linked and dependency["pkg"] not in found | macros:
                found.add(dependency["pkg"])
                waiting.append(dependency["pkg"])
    packages = (package for package in metadata["packages"] if package["id"] in found)
    return sorted(packages, key=lambda package: (package["name"], package["version"]))


def texts(package):
    """The files of a crate that are its license or a notice."""
    directory = pathlib.Path(package["manifest_path"]).parent
    named = ("LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE")
    files = (file for file in sorted(directory.iterdir()) if file.is_file() and file.name.upper().startswith(named))
    return [file.read_text(errors="replace").strip() for file in files]


def main():
    metadata = json.loads(subprocess.run(ASK, check=True, stdout=subprocess.PIPE).stdout)
    users = {}
    print("walcast is linked with these libraries:\n")
    for package in linked(metadata):
        name = f"{package['name']} {package['version']}"
        print(f"{name}: {package['license'] or package['license_file']}")
        for text in texts(package):
            users.setdefault(text, []).append(name)
    for text, names in users.items():
        print(f"\n{'=' * 80}\n{', '.join(names)}\n\n{text}")
    print(f"\n{'=' * 80}\nThe console has these libraries:\n")
    print(CONSOLE.read_text().strip())


sys.exit(main())
