"""The files of the demonstration: a folder for each pellet with rig, world, sample, parameters."""
