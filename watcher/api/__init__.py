"""The HTTP client of the upstream API. Every failure is returned as an observation; only cancellation is raised.

client       requests of one account: fetch and list, with retries within seconds, each attempt with a permit
connections  the connections of one account; a pool that lost some is replaced
gate         waits for the governor's permits
credentials  HTTP Basic with a secret that may change while the daemon runs
head         reads the head of an answer, and everything before it, within bounds
body         reads the body of an answer, within bounds
"""

from watcher.api.client import Client
from watcher.api.connections import Connections
from watcher.api.credentials import BasicCredentials
from watcher.api.gate import Gate

__all__ = ["BasicCredentials", "Client", "Connections", "Gate"]
