"""What can be read from embeddings: planted and absent levels, against loops."""

import numpy as np
import pytest

from medssl.stats.readable import readable, same_patient

pytestmark = pytest.mark.filterwarnings("error")


def cohort(seed=0, patients=60, images=3, width=8):
    g = np.random.default_rng(seed)
    who = np.repeat(np.arange(patients), images)
    rows = g.normal(size=(patients, 1, width)) + 0.5 * g.normal(size=(patients, images, width))
    return who, rows.reshape(-1, width), g


def test_a_planted_level_is_read_and_an_absent_one_is_not():
    who, rows, g = cohort()
    level = np.where(np.repeat(g.random(60) < 0.5, 3), "CR", "DX")
    planted = rows + 2.5 * (level == "DX")[:, None] * np.eye(8)[0]
    assert readable(planted, level, who).auroc.value > 0.85
    values = []
    for seed in range(12):
        who, rows, g = cohort(seed)
        level = np.repeat(g.random(60) < 0.5, 3)
        values.append(readable(rows, level, who, resamples=10).auroc.value)
    assert abs(np.mean(values) - 0.5) < 0.06


def test_rows_of_one_patient_do_not_leak():
    """Levels are random per patient and patients are recognisable: row folds would read them."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold

    who, rows, _ = cohort(3, patients=30, images=12, width=40)
    level = np.repeat(np.arange(30) % 2, 12)
    blind = np.zeros(len(rows))
    for train, test in StratifiedKFold(5, shuffle=True, random_state=0).split(rows, level):
        model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
        blind[test] = model.fit(rows[train], level[train]).decision_function(rows[test])
    assert roc_auc_score(level, blind) > 0.9
    assert readable(rows, level, who, resamples=10).auroc.value < 0.75


def test_three_levels_and_the_rule_for_few():
    who, rows, _ = cohort(1)
    level = np.repeat(np.r_[np.arange(57) % 3, [7, 7, 7]], 3)
    planted = rows + 2.0 * np.eye(8)[np.minimum(level, 7)]
    found = readable(planted, level, who, resamples=20)
    assert found.levels == ("0", "1", "2")
    assert found.left_out == 9
    assert found.auroc.value > 0.8
    alone = readable(rows, np.zeros(len(rows)), who)
    assert alone.auroc is None
    assert "two levels" in alone.note


def test_same_patient_equals_loops():
    who, rows, _ = cohort(2, patients=15, images=3)
    who, rows = np.r_[who, 99], np.vstack([rows, rows[:1] + 0.1])
    hits = []
    for i in range(len(rows)):
        if (who == who[i]).sum() < 2:
            continue
        best, at = -2.0, -1
        for j in range(len(rows)):
            if j != i:
                near = rows[i] @ rows[j] / np.linalg.norm(rows[i]) / np.linalg.norm(rows[j])
                if near > best:
                    best, at = near, j
        hits.append(who[at] == who[i])
    found = same_patient(rows, who, resamples=50)
    assert found.share.value == pytest.approx(np.mean(hits))
    assert found.chance == pytest.approx(2 / 45)
    assert found.share.lower <= found.share.value <= found.share.upper


def test_nobody_has_two_images():
    found = same_patient(np.eye(4), [1, 2, 3, 4])
    assert (found.share, found.chance) == (None, None)
    assert "two images" in found.note


def test_lengths_are_checked():
    with pytest.raises(ValueError, match="One level per row"):
        readable(np.eye(4), ["a"], [1, 2, 3, 4])
