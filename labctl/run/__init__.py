"""Runs: what a protocol holds, and what carries it out."""
