"""The real daemon against the simulated API in another process, beside a plain poller of the same libraries."""
