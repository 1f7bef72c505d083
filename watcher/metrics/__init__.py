"""The Prometheus exposition.

instruments   metrics of the watcher itself, fed by the parts that report to it
census        the collector over immutable snapshots: per operation and per account
finished      families of the counters of finished operations
text          the series of operations as text templates, kept from scrape to scrape
counter_text  the series of those counters as text, kept from scrape to scrape
accept        the format and the compression that the scraper accepts
exposition    one scrape, from the snapshots to the bytes
"""

from watcher.metrics.exposition import Exposition
from watcher.metrics.instruments import Instruments

__all__ = ["Exposition", "Instruments"]
