"""What a scrape costs, beside prometheus-client."""
