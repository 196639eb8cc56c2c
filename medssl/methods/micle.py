"""MICLe: two different images of one patient are the positive pair (Azizi et al. 2021)."""

from medssl.methods.simclr import SimCLR


class MICLe(SimCLR):
    """SimCLR's loss on another draw: two images of a patient, one view of each.

    A patient with one image gives two views of it (arXiv 2101.05224, section 3.2).
    """
