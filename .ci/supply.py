"""Lists and audits the packages of the product, from its lock file: `supply.py sbom` and `supply.py audit`.

`sbom` writes dist/sbom.cdx.json (CycloneDX) and docs/licences.md; packages and hashes come from requirements.lock,
licences from the metadata of the installed packages. `audit` checks for known vulnerabilities, and ends with 0 if there
are none, 1 if there are some, and 3 if no database could be reached, since that proves nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "requirements.lock"
SBOM = ROOT / "dist" / "sbom.cdx.json"
LICENCES = ROOT / "docs" / "licences.md"
BIN = Path(sys.executable).parent
FOUND, UNKNOWN = 1, 3
SECONDS = 120

# Licence names of packages, and their SPDX identifiers.
SPDX: Mapping[str, str] = {
    "MIT License": "MIT",
    "BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
PAGE = """# Licences

The watcher is under the [MIT licence](../LICENSE). It runs with these packages, each pinned with its hashes in
`requirements.lock`. `make sbom` writes this page, and the same as CycloneDX into `dist/sbom.cdx.json`.

| package | licence |
|---|---|
"""


def sbom() -> int:
    """Write dist/sbom.cdx.json and docs/licences.md."""
    document = _packages()
    licences = _licences(ROOT / ".venv")
    for component in document["components"]:
        component["licenses"] = [{"expression": licences[_normal(component["name"])]}]
    SBOM.parent.mkdir(exist_ok=True)
    SBOM.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    rows = sorted((_normal(one["name"]), one["licenses"][0]["expression"]) for one in document["components"])
    LICENCES.write_text(PAGE + "".join(f"| {name} | {licence} |\n" for name, licence in rows))
    print(f"{SBOM.relative_to(ROOT)}: {len(rows)} packages, all with licences; {LICENCES.relative_to(ROOT)}")
    return 0


def audit() -> int:
    """Print the known vulnerabilities of the packages."""
    command: list[str | Path] = [BIN / "pip-audit", "--disable-pip", "--require-hashes", "--requirement", LOCK]
    quiet = ["--format", "json", "--progress-spinner", "off", "--timeout", "10"]
    failure = ""
    for service in ("pypi", "osv"):
        done = _run([*command, *quiet, "--vulnerability-service", service])
        try:
            found = json.loads(done.stdout)["dependencies"]
        except (ValueError, KeyError):
            failure = (done.stderr.strip().splitlines() or ["no answer"])[-1]
            continue
        audited = [one for one in found if "vulns" in one]
        if audited:
            return _print_result(audited, len(found))
        failure = "the database knows none of the packages"
    print("NOT AUDITED: no database of vulnerabilities could be reached from here")
    print(f"  ({failure[:200]})")
    print("  run `make audit` with access to a database before a release")
    return UNKNOWN


def _print_result(audited: Sequence[Mapping[str, Any]], known: int) -> int:
    bad = [(one, flaw) for one in audited for flaw in one["vulns"]]
    for one, flaw in bad:
        print(f"{one['name']} {one['version']}: {flaw['id']}, fixed in {', '.join(flaw['fix_versions']) or 'none'}")
    print(f"audited {len(audited)} of {known} packages: {len(bad)} known vulnerabilities")
    if bad:
        return FOUND
    return 0 if len(audited) == known else UNKNOWN


def _packages() -> Any:
    options: list[str | Path] = [
        "--pyproject",
        ROOT / "pyproject.toml",
        "--output-reproducible",
        "--short-PURLs",
        "--of",
        "JSON",
    ]
    done = _run([BIN / "cyclonedx-py", "requirements", *options, LOCK])
    if done.returncode:
        sys.exit(done.stderr)
    document = json.loads(done.stdout)
    for component in document["components"]:
        del component["description"]  # the line of the lock file, with all hashes
        # The URL depends on the build; the hash identifies the package.
        for reference in component.get("externalReferences", ()):
            reference.pop("url", None)
        component["hashes"] = [
            one for reference in component.pop("externalReferences", ()) for one in reference.get("hashes", ())
        ]
    return document


def _licences(environment: Path) -> Mapping[str, str]:
    (packages,) = environment.glob("lib/python*/site-packages")
    return {_normal(one.name): _licence(one) for one in distributions(path=[str(packages)])}


def _licence(one: Distribution) -> str:
    def said(key: str) -> list[str]:
        return one.metadata.get_all(key) or []

    classifiers = [text.rpartition(" :: ")[2] for text in said("Classifier") if "License ::" in text]
    named = [*said("License-Expression"), *classifiers, *said("License")]
    if not named:
        sys.exit(f"{one.name} names no licence")
    return SPDX.get(named[0], named[0])


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def _run(command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)  # noqa: S603 -- ours


if __name__ == "__main__":
    sys.exit({"sbom": sbom, "audit": audit}[sys.argv[1]]())
