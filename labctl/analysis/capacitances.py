"""Which capacitance belongs to what in a pellet between blocking electrodes.

1e-12 to 1e-11 F in the bulk and 1e-11 to 1e-8 F at grain boundaries, after Irvine, Sinclair and
West, Adv. Mater. 1990, 2, 132; holder and leads add some 1e-11 F.
"""

BULK_CAPACITANCE_F = (1e-13, 3e-11)
ION_CAPACITANCE_F = 1e-8  # below it, an arc is the ions' in the pellet
ELECTRODE_CAPACITANCE_F = 1e-7  # above it, an arc is an electrode's
