"""Judging: whether a fit can be believed, how well it predicts, how probable its model is."""
