"""Prints each alert that Alertmanager sends, one line each: what a pager would show. Standard library only.

Listens on port 9099 of loopback, which the receivers in deploy/prometheus/alertmanager.yaml name.
"""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Takes what the webhook of Alertmanager posts."""

    def do_POST(self) -> None:
        """Print and thank."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for alert in body["alerts"]:
            labels, notes = alert["labels"], alert["annotations"]
            print(  # noqa: T201
                alert["status"].upper(),
                self.path,
                labels["alertname"],
                notes["summary"],
                f"[{notes.get('campaign', '-')}]",
                flush=True,
            )
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- so it is called
        """Silence."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", 9099), Handler).serve_forever()
