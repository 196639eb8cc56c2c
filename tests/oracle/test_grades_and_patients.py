"""Ordered classes and answers by patient, against loops, autograd and scikit-learn."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from medssl.finetune import attention, levels, probe
from medssl.finetune.task import Task
from medssl.models.heads import OrdinalHead
from medssl.stats import probes
from medssl.stats.bootstrap import Patients

RNG = np.random.default_rng(3)


def graded(n=200, width=6, classes=4):
    x = RNG.normal(size=(n, width)) * RNG.uniform(0.5, 4, width) + 3
    latent = x[:, 0] - 0.5 * x[:, 1] + RNG.normal(size=n)
    codes = np.searchsorted(np.quantile(latent, np.arange(1, classes) / classes), latent)
    return x, codes


def test_two_grades_are_a_logistic_regression():
    x, codes = graded(classes=2)
    ours = probe.fit_ordinal(x, codes, 2, 5.0)
    z = (x - x.mean(0)) / x.std(0)
    theirs = LogisticRegression(C=1 / 5, tol=1e-8, max_iter=5000).fit(z, codes)
    got = probe.softmax(ours.logits(x))[:, 1]
    np.testing.assert_allclose(got, theirs.predict_proba(z)[:, 1], atol=1e-4)


@pytest.mark.parametrize("balance", [False, True])
def test_four_grades_are_at_the_minimum_of_the_plain_loss(balance):
    x, codes = graded()
    codes = np.minimum(codes, RNG.integers(0, 4, len(codes)))  # uneven
    found = probe.fit_ordinal(x, codes, 4, 3.0, balance=balance)
    z = torch.from_numpy((x - x.mean(0)) / x.std(0))
    direction = torch.from_numpy((found.weight[1] * x.std(0)).copy()).requires_grad_()
    bias = found.bias + found.weight @ x.mean(0)
    bias = torch.from_numpy(bias - bias[0]).requires_grad_()
    total = 1.5 * (direction**2).sum()
    share = np.bincount(codes, minlength=4)
    for row, code in zip(z, codes, strict=True):
        logits = torch.stack([k * (row @ direction) + bias[k] for k in range(4)])
        weight = len(codes) / (4 * share[code]) if balance else 1.0
        total = total - weight * torch.log_softmax(logits, 0)[code]
    total.backward()
    assert direction.grad.abs().max() < 0.02 * len(codes) ** 0.5
    assert bias.grad[1:].abs().max() < 0.02 * len(codes) ** 0.5
    steps = found.weight[1:] / found.weight[1]
    np.testing.assert_allclose(steps, np.arange(1, 4)[:, None] * np.ones(6))


def test_the_head_of_grades_as_a_plain_one():
    head = OrdinalHead(5, 3)
    with torch.no_grad():
        head.bias.copy_(torch.tensor([0.0, 1.0, -2.0]))
    x = torch.randn(7, 5)
    torch.testing.assert_close(head.plain()(x), head(x))


def test_the_score_of_grades():
    codes = RNG.integers(0, 4, 90)
    scores = RNG.dirichlet(np.ones(4), 90)
    expected = scores @ np.arange(4)
    wanted = np.mean([roc_auc_score(codes > k, expected) for k in range(3)])
    assert probes.score(codes, scores, ordered=True) == pytest.approx(wanted)
    groups = Patients.of(np.repeat(np.arange(30), 3))
    statistic = probes.score_statistic(codes, scores, groups, ordered=True)
    assert statistic(np.ones((1, 30), int))[0] == pytest.approx(wanted)
    drawn = RNG.integers(0, 3, 30)
    rows = np.concatenate(
        [
            np.repeat(np.arange(3 * p, 3 * p + 3)[None], d, 0).ravel()
            for p, d in enumerate(drawn)
            if d
        ]
    )
    again = np.mean([roc_auc_score(codes[rows] > k, expected[rows]) for k in range(3)])
    assert statistic(drawn[None])[0] == pytest.approx(again)


def a_task(patient, codes, classes, *, ordered=False):
    n = len(patient)
    names = tuple(f"c{k}" for k in range(classes))
    return Task("t", names, np.arange(n), np.asarray(codes), np.asarray(patient).astype(str),
                np.full(n, "test"), {}, ordered)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2)), min_size=1, max_size=25),
    st.sampled_from([2, 3]),
    st.booleans(),
    st.sampled_from(["image", "patient mean", "patient max"]),
)
def test_patients_by_loops(rows, classes, ordered, level):
    patient = [p for p, _ in rows]
    codes = [min(c, classes - 1) for _, c in rows]
    scores = np.random.default_rng(len(rows)).dirichlet(np.ones(classes), len(rows))
    task = a_task(patient, codes, classes, ordered=ordered)
    found = levels.asked(task, np.arange(len(rows)), level)
    got = levels.pooled(found, scores, level)
    if level == "image":
        np.testing.assert_array_equal(got, scores)
        return
    wanted_codes, wanted, left = [], [], 0
    for p in dict.fromkeys(patient):
        own = [k for k, q in enumerate(patient) if q == p]
        answers = {codes[k] for k in own}
        if len(answers) > 1 and classes > 2 and not ordered:
            left += 1
            continue
        wanted_codes.append(max(answers))
        wanted.append(scores[own].mean(0) if level == "patient mean" else scores[own].max(0))
    assert found.left_out == left
    assert found.codes.tolist() == wanted_codes
    if wanted:
        np.testing.assert_allclose(got, np.array(wanted))
    assert found.groups.count == len(set(patient))  # patients keep their numbers


def test_attention_by_loops_and_that_it_finds_the_picture_that_counts():
    """One picture of a positive patient carries the sign, the others are noise."""
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(160), 5)
    answer = np.arange(160) % 2
    x = rng.normal(size=(800, 8)).astype(np.float32)
    x[np.arange(160) * 5 + rng.integers(0, 5, 160), 0] += 6.0 * answer
    codes = answer[patient]
    train = patient < 100
    scores = attention.fit_attention(
        x[train], codes[train], Patients.of(patient[train]), 2, x, Patients.of(patient), 1.0, 0
    )
    assert all(len(set(scores[patient == p, 1].tolist())) == 1 for p in range(160))
    test = np.arange(100, 160)
    own = roc_auc_score(answer[test], scores[test * 5, 1])
    mean = probe.fit_linear(x[train], codes[train], 2, 1.0).logits(x)[:, 1]
    plain = roc_auc_score(answer[test], [mean[patient == p].mean() for p in test])
    assert own > max(0.9, plain)
    model = attention.GatedAttention(8, 2)
    bags = attention.pack(x[:15], Patients.of(np.array([0] * 4 + [1] * 1 + [2] * 10)))
    got = model(bags.features, bags.real)
    begin = 0
    for k, size in enumerate((4, 1, 10)):
        own = torch.from_numpy(x[begin : begin + size])
        votes = model.vote(torch.tanh(model.content(own)) * torch.sigmoid(model.gate(own)))[:, 0]
        weight = torch.exp(votes) / torch.exp(votes).sum()
        torch.testing.assert_close(got[k], model.head((weight[:, None] * own).sum(0)))
        begin += size
