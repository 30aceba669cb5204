"""The fault campaign: simulated instruments measure while everything behind them is broken."""
