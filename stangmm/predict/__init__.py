"""Predictions: what mixtures say of rows, averaged over draws; numpy and scipy only."""
