"""Protocols: one experiment per file."""
