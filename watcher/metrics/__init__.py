"""What Prometheus sees.

instruments   metrics of the watcher itself, fed by what its parts report
census        the collector over immutable snapshots: per operation and per account
finished      families of the counters of what has finished
text          the series of operations as text with holes, kept from scrape to scrape
counter_text  the series of what has finished as text, kept from scrape to scrape
accept        format and packing by what the scraper accepts
exposition    one scrape, from the snapshots to the bytes
"""

from watcher.metrics.exposition import Exposition
from watcher.metrics.instruments import Instruments

__all__ = ["Exposition", "Instruments"]
