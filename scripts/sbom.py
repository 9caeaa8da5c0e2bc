#!/usr/bin/env python3
"""Holds a bill of materials to the schema of CycloneDX 1.5: sbom.py FILE. Needs cyclonedx-python-lib[json-validation]."""

import json
import pathlib
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

text = pathlib.Path(sys.argv[1]).read_text()
if error := JsonStrictValidator(SchemaVersion.V1_5).validate_str(text):
    sys.exit(f"{sys.argv[1]}: {error}")
bill = json.loads(text)
without = [part["name"] for part in bill["components"] if not part.get("licenses")]
if without:
    sys.exit(f"{sys.argv[1]}: without a license: {', '.join(without)}")
print(f"{sys.argv[1]}: {len(bill['components'])} components")
