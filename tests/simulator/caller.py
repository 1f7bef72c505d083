"""A client of a simulated API without a network: a caller with credentials, and a clock that the test sets."""

import base64
import json
from typing import Any
from urllib.parse import quote, urlencode

from watcher.simulator import Reply, Request, Upstream, parse_scenario
from watcher.simulator.timestamps import SECOND

START = 1_705_311_000 * SECOND  # 2024-01-15T09:30:00Z
OPERATIONS = "/v1/PushNotifications/Operations"
ONE = "comms_operation_01h9krwprkeee8fzqspvwy6nq8"


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


Row = dict[str, Any]
Pages = list[list[Row]]


class Caller:
    """Sends requests to a simulated API with the scenario of this text. Times are seconds since its start."""

    def __init__(self, scenario: str = "", *, seconds: float = 0):
        self.upstream = Upstream(parse_scenario(scenario), START)
        account = self.upstream.accounts[0]
        self.authorization: str | None = basic(account.account_id, account.auth_token)
        self.seconds = seconds

    @property
    def now(self) -> int:
        return START + round(self.seconds * SECOND)

    def request(self, method: str, path: str, *, body: bytes = b"", **query: Any) -> Reply:
        headers = {} if self.authorization is None else {"authorization": self.authorization}
        sent = Request(method=method, path=path, query=urlencode(query), headers=headers, body=body)
        return self.upstream.answer(sent, self.now)

    def fetch(self, operation_id: str) -> Reply:
        return self.request("GET", f"{OPERATIONS}/{quote(operation_id, safe='')}")

    def list(self, **query: Any) -> Reply:
        return self.request("GET", OPERATIONS, **query)

    def send(self, **body: Any) -> Reply:
        return self.request("POST", "/v1/PushNotifications", body=json.dumps(body).encode())

    def walk(self, *, seconds_per_page: float = 0, at_most: int = 1_000, **query: Any) -> Pages:
        """Rows of all pages, one list per page."""
        pages = []
        token: dict[str, Any] = {}
        for _ in range(at_most):
            page = read(self.list(**query, **token))
            pages.append(page["operations"])
            self.seconds += seconds_per_page
            if not page["pagination"].get("next"):
                return pages
            token = {"pageToken": page["pagination"]["next"]}
        raise AssertionError("the walk does not end")


def read(reply: Reply, status: int = 200) -> dict[str, Any]:
    assert reply.status == status, reply.body
    value: dict[str, Any] = json.loads(reply.body)
    return value


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["id"] for row in rows]
