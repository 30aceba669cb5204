"""The store of runs: written by a recorder, read by everyone."""
