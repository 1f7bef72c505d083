"""Make the pictures of the manual: `python -m tests.e2e.screenshots [FOLDER]`, docs/images if left out."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.e2e.browser import ROWS, WIDE, Stage, chromium, furnish, visiting
from tests.server.serving import listening

IMAGES = Path(__file__).parents[2] / "docs" / "images"


async def take(folder: Path) -> list[Path]:
    """The list in light, and the details of one operation in dark."""
    stage = Stage("main")
    await furnish(stage)
    light, dark = folder / "page-light.png", folder / "page-dark.png"
    folder.mkdir(parents=True, exist_ok=True)
    async with chromium() as browser, listening(stage.web()) as listener:
        url = listener.addresses[0] + "/"
        async with visiting(browser, url, size=WIDE, color_scheme="light") as visit:
            await visit.page.screenshot(path=light)
        async with visiting(browser, url, size=WIDE, color_scheme="dark") as visit:
            await visit.page.locator(f"{ROWS} a").first.click()
            await visit.page.wait_for_selector(".history li")
            await visit.page.screenshot(path=dark)
    return [light, dark]


if __name__ == "__main__":
    for path in asyncio.run(take(Path(sys.argv[1]) if sys.argv[1:] else IMAGES)):
        print(f"{path} {path.stat().st_size:,} bytes")
