"""`python -m benchmarks [planner|daemon|scrape] [options]`: runs the named benchmark, or all of them."""

from __future__ import annotations

import subprocess
import sys

NAMES = ("planner", "daemon", "scrape")


def main(arguments: list[str]) -> int:
    named = arguments[:1] if arguments[:1] and arguments[0] in NAMES else []
    options = arguments[len(named) :]
    codes = [
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], check=False).returncode
        for name in named or NAMES
    ]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
