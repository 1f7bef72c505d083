"""Copies the `watcher` package of this tree or of another commit to a temporary folder, and compiles it.

Both sides of a comparison are prepared in the same way, since a package that is compiled at its first start, or that is
in another place, uses other amounts of memory and CPU time for the same code.
"""

from __future__ import annotations

import compileall
import contextlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = "watcher"


@dataclass(frozen=True, kw_only=True)
class Source:
    """A folder that holds the package, and its name in tables."""

    name: str
    root: Path


@contextlib.contextmanager
def working_tree() -> Iterator[Source]:
    """Yield the present files, with changes that are not committed."""
    with tempfile.TemporaryDirectory(prefix="watcher-") as folder:
        shutil.copytree(ROOT / PACKAGE, Path(folder) / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
        yield _compiled("this tree", folder)


@contextlib.contextmanager
def checked_out(commit: str) -> Iterator[Source]:
    """Yield the package of a commit. Raises ValueError for an unknown commit."""
    found = _git("rev-parse", "--short", "--verify", "--quiet", f"{commit}^{{commit}}")
    if found.returncode:
        raise ValueError(f"not a commit of this repository: {commit}")
    short = found.stdout.decode().strip()
    archive = _git("archive", short, PACKAGE)
    archive.check_returncode()
    with tempfile.TemporaryDirectory(prefix="watcher-") as folder:
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
            tar.extractall(folder, filter="data")
        yield _compiled(short, folder)


def _compiled(name: str, folder: str) -> Source:
    compileall.compile_dir(folder, quiet=2)
    # Installed packages too: in a new virtual environment the first side would compile them and use 5 MiB more. The
    # commit may be of any age, so a module that it does not have is no error.
    for module in ("watcher.daemon", "watcher.cli.run", "watcher.simulator.server"):
        environ = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        subprocess.run(
            [sys.executable, "-c", f"import {module}"],
            env=environ | {"PYTHONPATH": folder},
            check=False,
            stderr=subprocess.DEVNULL,
        )
    return Source(name=name, root=Path(folder))


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    git = shutil.which("git") or "git"
    return subprocess.run([git, *arguments], cwd=ROOT, capture_output=True, check=False)
