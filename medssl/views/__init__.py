"""Augmentation on whole batches: parameters are sampled first, recorded, then applied.

Every parameter is a function of (seed, epoch, view, place in the epoch), so a resumed run, another
number of processes and another device see the same views.
"""

from medssl.views.batch import apply, check
from medssl.views.parameters import DRAWS, ViewParameters, key, sample, uniforms

__all__ = ["DRAWS", "ViewParameters", "apply", "check", "key", "sample", "uniforms"]
