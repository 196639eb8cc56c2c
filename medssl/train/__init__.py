"""Pretraining: the feed, the optimiser, the loop, and the verb."""
