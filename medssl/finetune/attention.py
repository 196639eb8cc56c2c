"""Attention over a patient's pictures: which of them decide is learnt from frozen features.

Gated attention of Ilse et al. 2018 (arXiv 1802.04712, eq. 9). A patient is a bag; every picture of
it gets the patient's answer. It begins as the logistic probe of the mean of a patient's features: from
random weights it learns the few labelled patients by heart.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.finetune.probe import LEAST_DEVIATION, Features, FloatArray, IntArray, fit_linear
from medssl.stats.bootstrap import Patients

HIDDEN = 16
STEPS = 200
RATE = 1e-3
DECAY = 0.1
SEED_OF_HEAD = 7


class GatedAttention(nn.Module):
    """Logits of bags: ``[B, M, width]`` and a mask of real pictures ``[B, M]`` to ``[B, K]``."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.content, self.gate = nn.Linear(width, HIDDEN), nn.Linear(width, HIDDEN)
        self.vote = nn.Linear(HIDDEN, 1)
        self.head = nn.Linear(width, classes)
        nn.init.zeros_(self.vote.weight)

    def forward(self, bags: Tensor, real: Tensor) -> Tensor:
        """Map padded bags to logits."""
        votes = self.vote(torch.tanh(self.content(bags)) * torch.sigmoid(self.gate(bags)))
        share = votes.squeeze(-1).masked_fill(~real, float("-inf")).softmax(1)
        logits: Tensor = self.head((share.unsqueeze(-1) * bags).sum(1))
        return logits


@dataclass(frozen=True)
class Bags:
    """Pictures by patient, padded.

    Attributes:
        features: float32 ``[B, M, width]``.
        real: bool ``[B, M]``.
    """

    features: Tensor
    real: Tensor


def pack(features: Features, groups: Patients) -> Bags:
    """Return standardised features by patient, float ``[n, width]`` in."""
    sizes = np.diff(groups.start)
    real = np.arange(int(sizes.max())) < sizes[:, None]
    out = np.zeros((*real.shape, features.shape[1]), np.float32)
    out[real] = features[groups.order]
    return Bags(torch.from_numpy(out), torch.from_numpy(real))


def fit_attention(
    features: Features,
    codes: IntArray,
    patient: Patients,
    classes: int,
    every: Features,
    groups: Patients,
    penalty: float,
    seed: int,
) -> FloatArray:
    """Learn from labelled patients; return class probabilities of every picture, its patient's.

    Args:
        features: of the labelled pictures ``[n, width]``.
        codes: class of each; a patient has the highest of theirs ``[n]``.
        patient: whose the labelled pictures are.
        classes: K.
        every: features of all pictures ``[m, width]``.
        groups: whose those are.
        penalty: of the probe that it begins as.
        seed: of the weights.
    """
    mean, deviation = features.mean(0), features.std(0)
    scale = np.where(deviation > LEAST_DEVIATION, deviation, 1.0)
    answer = np.zeros(patient.count, np.int64)
    np.maximum.at(answer, patient.code, codes)
    bags, wanted = pack((features - mean) / scale, patient), torch.from_numpy(answer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed * 1000 + SEED_OF_HEAD)
        model = GatedAttention(features.shape[1], classes)
    means = bags.features.sum(1).numpy() / bags.real.sum(1, keepdim=True).numpy()
    begin = fit_linear(means, answer, classes, penalty)
    with torch.no_grad():
        model.head.weight.copy_(torch.from_numpy(begin.weight))
        model.head.bias.copy_(torch.from_numpy(begin.bias))
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(bags.features, bags.real), wanted)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.inference_mode():
        asked = pack((every - mean) / scale, groups)
        logits = torch.cat(
            [
                model(f, r)
                for f, r in zip(
                    torch.split(asked.features, 512), torch.split(asked.real, 512), strict=True
                )
            ]
        )
    out: FloatArray = logits.double().softmax(1).numpy()[groups.code]
    return out
