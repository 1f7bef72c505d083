"""HTTP of both listeners: sockets, TLS, limits, and what was handed to the socket. Knows nothing of what it serves.

addresses         what listens where
listener          one listener: starts, stops, and keeps its connections within a limit
sockets           the sockets of an address, over TCP or Unix
limits            what a connection may take
tls_handshake     the beginning of a connection
protocol          HTTP/1.1 with our limits, on uvicorn
parser            h11 with bounds for bodies
lingering         the end of a connection: what still arrives is read for a moment
outer_middleware  headers of every answer, and faults of handlers
scrape            an answer that knows whether it was handed to the socket whole
"""

from watcher.server.http.addresses import Addresses
from watcher.server.http.listener import Listener
from watcher.server.http.outer_middleware import OuterMiddleware
from watcher.server.http.scrape import Scrape

__all__ = ["Addresses", "Listener", "OuterMiddleware", "Scrape"]
