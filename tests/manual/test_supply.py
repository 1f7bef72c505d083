"""What we build from is pinned, and the page of licences names what runs."""

from __future__ import annotations

import re
from importlib.metadata import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "build.lock", "tests/requirements.lock", "tests/tools.lock", ".ci/supply.lock")
PINNED = re.compile(r"^([a-z0-9._-]+)==\S+", re.MULTILINE)
PAGE = dict(re.findall(r"^\| ([a-z0-9-]+) \| ([^|]+) \|$", (ROOT / "docs" / "licences.md").read_text(), re.MULTILINE))
PACKAGES = PINNED.findall((ROOT / "requirements.lock").read_text())


@pytest.mark.parametrize("name", LOCKS)
def test_everything_is_pinned_with_hashes(name: str):
    entries = re.split(r"\n(?=[a-z0-9])", (ROOT / name).read_text())
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry or not PINNED.match(entry)] == []


def test_the_page_of_licences_names_exactly_the_packages_that_run():
    assert PAGE.keys() - {"package"} == set(PACKAGES)


@pytest.mark.parametrize("name", PACKAGES)
def test_a_licence_is_the_one_that_the_package_names(name: str):
    assert metadata(name).get_all("License-Expression") in (None, [PAGE[name]])
