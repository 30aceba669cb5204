"""Instruments: techniques, capabilities, the bus and the rig."""
