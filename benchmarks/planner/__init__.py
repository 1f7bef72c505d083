"""Requests per operation and detection delay, in virtual time."""
