"""What Prometheus sees.

instruments  metrics of the watcher itself, fed by what its parts report
census       the collector over immutable snapshots: per operation, and the counters of the finished
text         the series of operations as text with holes, kept from scrape to scrape
exposition   one scrape: format and packing by what the scraper accepts
"""

from watcher.metrics.exposition import Exposition
from watcher.metrics.instruments import Instruments

__all__ = ["Exposition", "Instruments"]
