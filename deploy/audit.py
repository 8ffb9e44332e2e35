"""Known weaknesses of what is pinned, and its licences: `python -m deploy.audit`.

Weaknesses are asked of a service on the network; where it cannot be reached, that is said, and is no failure.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from collections.abc import Iterator

from deploy.toolbox import PROJECT

REQUIREMENTS = PROJECT / "requirements.txt"
DOCUMENT = PROJECT / "docs" / "licences.md"
HEADER = """\
# Licences

Of what is deployed, as the packages themselves declare. Written by `make audit`.

| package | version | licence |
|---|---|---|
"""


def pinned() -> Iterator[str]:
    """The names of the packages that are deployed."""
    for line in REQUIREMENTS.read_text().splitlines():
        if line and not line.startswith("#"):
            yield re.split(r"[\[=]", line)[0]


def licence(name: str) -> str:
    """Return the declared licence: an SPDX expression, else the classifiers, else the free text."""
    declared = importlib.metadata.metadata(name).json
    classifiers = declared.get("classifier", [])
    named = [text.rpartition(" :: ")[2] for text in classifiers if text.startswith("License :: ")]
    own_words = str(declared.get("license", "")).partition("\n")[0]
    return str(declared.get("license_expression") or ", ".join(named) or own_words or "not declared")


def licences() -> str:
    """The text of docs/licences.md."""
    rows = [
        f"| {name} | {importlib.metadata.version(name)} | {licence(name)} |" for name in sorted(set(pinned()))
    ]
    return HEADER + "\n".join(rows) + "\n"


def weaknesses() -> int:
    """Ask for known weaknesses; 1 if there are any. Who could not be asked about is named."""
    options = ("--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off")
    command = [sys.executable, "-m", "pip_audit", *options, "-r", str(REQUIREMENTS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        found = json.loads(done.stdout)["dependencies"]
    except ValueError:
        print(f"The service that knows of weaknesses could not be asked: nothing was audited.\n{done.stderr}")
        return 0
    skipped = [package["name"] for package in found if "skip_reason" in package]
    if skipped:
        print(f"{len(skipped)} of {len(found)} packages could not be audited: {', '.join(skipped)}")
    weak = [package for package in found if package.get("vulns")]
    for package in weak:
        ids = ", ".join(weakness["id"] for weakness in package["vulns"])
        print(f"{package['name']} {package['version']}: {ids}")
    audited = len(found) - len(skipped)
    print(f"{audited} of {len(found)} packages were audited; {len(weak)} of them have known weaknesses.")
    return 1 if weak else 0


if __name__ == "__main__":
    DOCUMENT.write_text(licences())
    print(f"Wrote {DOCUMENT.relative_to(PROJECT)}")
    sys.exit(weaknesses())
