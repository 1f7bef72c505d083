"""The status page: rendered completely on the server, then kept up to date by a script that polls the JSON API.

    delta_view  what is shown now, and what of it changed since a bookmark
    render      the page as HTML, in pieces; style.css and script.js are inline and allowed by their hashes

Without scripts the page is a table as of the request. Every text from outside is escaped by `render`, and set as
`textContent` by the script; the page's Content-Security-Policy enforces it. `render` and `script.js` both format rows,
and must produce the same texts and bars.
"""

from watcher.server.page.delta_view import Delta, DeltaView
from watcher.server.page.render import POLICY, render

__all__ = ["POLICY", "Delta", "DeltaView", "render"]
