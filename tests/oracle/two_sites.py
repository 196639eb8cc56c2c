"""Embeddings of two sites as the reference draws them, for every test that compares sites."""

import numpy as np


def sites(g, source, target, m, d, moved):
    """Two sites by recipe R5: (rows, patients) of each."""
    x = (g.normal(0, 1, (source, 1, d)) + g.normal(0, 0.5, (source, m, d))).reshape(-1, d)
    y = (moved + g.normal(0, 1, (target, 1, d)) + g.normal(0, 0.5, (target, m, d))).reshape(-1, d)
    return x, np.repeat(np.arange(source), m), y, np.repeat(source + np.arange(target), m)
