"""The status page: made whole on the server, kept up to date by a script that asks the JSON API.

    delta_view  what is shown now, and what of it changed since a bookmark
    render      the page as HTML, in pieces; style.css and script.js stand in it and are allowed by their hashes

Without a script it is a table as of when it was asked for. Every text that came from outside is escaped here, and goes
through `textContent` there; the policy of the page enforces it. The words and bars of a row are made in both places:
`render` and `script.js` say the same.
"""

from watcher.server.page.delta_view import Delta, DeltaView
from watcher.server.page.render import POLICY, render

__all__ = ["POLICY", "Delta", "DeltaView", "render"]
