"""Drivers: one instrument model, or one command set, per file."""
