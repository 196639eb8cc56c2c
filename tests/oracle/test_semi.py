"""Pseudo-labels and self-distillation, against plain loops; what may teach and what may not."""

import numpy as np
import pytest
from scipy.optimize import minimize

from medssl.config import FinetuneConfig
from medssl.finetune import probe, semi

CONFIG = FinetuneConfig(target="t", penalty=2.0, agreement=0.8)


def clouds(rng, n, width=5):
    codes = rng.integers(0, 3, n)
    return (rng.normal(size=(n, width)) + 2.0 * np.eye(3, width)[codes]).astype(np.float32), codes


def test_distillation_is_the_soft_cross_entropy():
    """The minimum of labels plus soft labels, by another optimiser and a plain loss."""
    rng = np.random.default_rng(0)
    x, codes = clouds(rng, 30)
    free, _ = clouds(rng, 50)
    teacher = probe.fit_linear(x, codes, 3, 2.0)
    got = semi.distilled(teacher, x, codes, free, CONFIG).model
    soft = probe.softmax(teacher.logits(free))
    repeated = np.concatenate([x, np.repeat(free, 3, axis=0)])  # as it is standardised
    mean, scale = repeated.mean(0), repeated.std(0)
    rows = (np.concatenate([x, free]) - mean) / scale
    wanted = np.concatenate([np.eye(3)[codes], soft])

    def loss(flat):
        weight, bias = flat[:15].reshape(3, 5), flat[15:]
        logits = rows @ weight.T + bias
        logp = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        return -(wanted * logp).sum() + 0.5 * 2.0 * (weight**2).sum()

    best = minimize(loss, np.zeros(18)).x
    logits = ((free - mean) / scale) @ best[:15].reshape(3, 5).T + best[15:]
    np.testing.assert_allclose(probe.softmax(got.logits(free)), probe.softmax(logits), atol=2e-3)


def test_nothing_unlabelled_is_the_plain_probe():
    rng = np.random.default_rng(1)
    x, codes = clouds(rng, 40)
    patient = np.array([f"p{k // 2}" for k in range(40)])
    plain = probe.fit_linear(x, codes, 3, 2.0)
    none = np.empty((0, 5), np.float32)
    for found in (
        semi.distilled(plain, x, codes, none, CONFIG),
        semi.pseudo_labelled(x, codes, patient, none, 3, CONFIG, 0),
    ):
        assert found.share == 0
        np.testing.assert_allclose(found.model.weight, plain.weight, atol=1e-9)


def test_only_what_all_teachers_are_sure_of_teaches(monkeypatch):
    rng = np.random.default_rng(2)
    x, codes = clouds(rng, 60)
    patient = np.array([f"p{k // 3}" for k in range(60)])
    free, truth = clouds(rng, 400)
    seen, real = [], semi.fit_linear

    def fit(*args, **kwargs):
        seen.append(args)
        return real(*args, **kwargs)

    monkeypatch.setattr(semi, "fit_linear", fit)
    found = semi.pseudo_labelled(x, codes, patient, free, 3, CONFIG, 5)
    *teachers, student = seen
    assert len(teachers) == semi.TEACHERS
    models = [real(t[0], t[1], 3, 2.0) for t in teachers]
    kept = []
    for row in free:
        chance = np.mean([probe.softmax(m.logits(row[None]))[0] for m in models], axis=0)
        said = {int(m.logits(row[None])[0].argmax()) for m in models}
        kept.append(len(said) == 1 and chance.max() >= 0.8)
    assert found.share == pytest.approx(np.mean(kept))
    assert 0.1 < found.share < 0.95
    np.testing.assert_array_equal(student[0], np.concatenate([x, free[kept]]))
    right = student[1][60:] == truth[kept]
    assert right.mean() > 0.9
    for t in teachers:  # whole patients are drawn
        rows = [np.flatnonzero((x == r).all(1))[0] for r in t[0]]
        counts = np.bincount(rows, minlength=60).reshape(20, 3)
        assert (counts == counts[:, :1]).all()
        assert counts.sum() == 60


def test_teachers_know_every_class():
    """One patient holds the only picture of a class; a draw without them is made anew."""
    x = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    codes = np.array([0] * 6 + [1] * 5 + [2])
    patient = np.array([f"p{k}" for k in range(12)])
    found = semi.pseudo_labelled(x, codes, patient, x, 3, CONFIG, 0)
    assert found.model.weight.shape == (3, 4)
