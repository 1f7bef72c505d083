"""The upstream over HTTP. Every failure leaves as an observation; nothing is raised across this door but cancellation.

client       one account's questions: fetch and list, ridden out by tenacity, each attempt under a permit
connections  the account's connections; a pool that lost some is replaced
gate         waits for the governor's permits
credentials  HTTP Basic from a secret that may change under us
head         an answer's head, and what comes before it, within bounds
body         answers read whole, within bounds
"""

from watcher.api.client import Client
from watcher.api.connections import Connections
from watcher.api.credentials import BasicCredentials
from watcher.api.gate import Gate

__all__ = ["BasicCredentials", "Client", "Connections", "Gate"]
