"""Simulated instruments, and the cells and stages they measure."""
