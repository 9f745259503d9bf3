"""The grids an extract can be written on, each a plug-in with the same contract (see `base`)."""
