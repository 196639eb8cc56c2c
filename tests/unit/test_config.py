"""Settings: all problems at once, nothing executed, everything reloadable."""

import pytest

from medssl import config as room
from medssl import loading
from medssl.errors import UsageError


def refuse(model, tree):
    with pytest.raises(UsageError) as caught:
        loading.validate(model, tree, "bad.yaml")
    return str(caught.value)


def test_all_problems_at_once_with_the_nearest_name():
    words = refuse(
        room.PretrainConfig,
        {"method": {"name": "simclr", "temprature": 1}, "decode": {"siz": 3}, "batch": 1,
         "duration": {"epochs": 1, "steps": 3}, "optim": {"lr": "fast"}},
    )  # fmt: skip
    assert "5 setting(s) to correct" in words
    for part in (
        "did you mean 'size'",
        "did you mean 'temperature'",
        "batch",
        "exactly one of",
        "optim.lr",
    ):
        assert part in words


def test_misspelt_method_lists_the_table():
    assert "did you mean 'simclr'" in refuse(room.PretrainConfig, {"method": {"name": "simcl"}})
    inner = refuse(room.PretrainConfig, {"method": {"name": "simclr"}, "tempreature": 0.1})
    other = refuse(room.PretrainConfig, {"method": {"name": "byol", "temperature": 0.2}})
    assert "method.byol.temperature: unknown setting" in other
    assert "did you mean" not in other  # another task's setting is no help
    assert "did you mean 'method.temperature'" in inner
    assert "see --settings" in refuse(room.PretrainConfig, {"method": {"name": "simclr"}, "zzz": 1})
    assert "required" in refuse(room.PretrainConfig, {"method": {}})
    assert "method" in refuse(room.PretrainConfig, {})


@pytest.mark.parametrize("duration", [{}, {"steps": 1, "epochs": 1}, {"examples": 0}])
def test_exactly_one_duration(duration):
    assert "duration" in refuse(
        room.PretrainConfig, {"method": {"name": "micle"}, "duration": duration}
    )


def test_durations_convert():
    assert room.Duration(steps=7).total_steps(10, 40) == 7
    assert room.Duration(epochs=3).total_steps(10, 40) == 30
    assert room.Duration(examples=9).total_steps(10, 40) == 3
    assert room.Duration(examples=640).total_steps(2, 65) == 20  # batches of 33 and 32, not of 64


def test_extends_overrides_and_renamed_blocks(tmp_path):
    (tmp_path / "base.yaml").write_text("method: {name: micle, bag: study_id}\nbatch: 64\n")
    (tmp_path / "top.yaml").write_text("extends: base.yaml\nmethod: {name: simclr}\n")
    got = loading.load(room.PretrainConfig, tmp_path / "top.yaml", ("optim.lr=1e-4", "batch=32"))
    assert (got.method.name, got.batch, got.optim.lr) == ("simclr", 32, 1e-4)
    (tmp_path / "again.yaml").write_text(loading.to_yaml(got))
    assert loading.load(room.PretrainConfig, tmp_path / "again.yaml") == got


@pytest.mark.parametrize(
    "text",
    [
        "batch: 1\nbatch: 2\n",
        "a: &x [1]\nb: *x\n",
        "!!python/object/apply:os.system ['true']\n",
        "- a list\n",
        "extends: loop.yaml\n",
        "batch: [1\n",
    ],
)
def test_hostile_yaml_is_refused(tmp_path, text):
    path = tmp_path / "loop.yaml"
    path.write_text(text)
    with pytest.raises(UsageError):
        loading.load(room.PretrainConfig, path)


def test_absent_file_and_broken_override(tmp_path):
    with pytest.raises(UsageError, match="no such config"):
        loading.load(room.PretrainConfig, tmp_path / "no.yaml")
    with pytest.raises(UsageError, match="key=value"):
        loading.load(room.DecodeConfig, None, ("size",))


def test_frozen_and_digested():
    a, b = room.DecodeConfig(), room.DecodeConfig(size=64)
    assert a.digest() == room.DecodeConfig().digest() != b.digest()
    with pytest.raises(ValueError, match="frozen"):
        a.size = 3


def test_zero_is_zero():
    """A value that is false is still a value."""
    assert room.ViewsConfig(rotation_deg=0).rotation_deg == 0
    assert room.PretrainConfig(method={"name": "simclr"}, seed=0).seed == 0


@pytest.mark.parametrize(
    ("model", "tree", "part"),
    [
        (room.FinetuneConfig, {"target": "x", "budgets": [0]}, "percentage"),
        (room.FinetuneConfig, {"target": "x", "full": {"budgets": [3]}}, "among budgets"),
        (room.FinetuneConfig, {"target": "x", "modes": []}, "must not be empty"),
        (room.DecodeConfig, {"ct_range_hu": [5, 1]}, "must rise"),
        (room.ViewsConfig, {"crop_area": [0, 1]}, "crop_area"),
        (room.OptimConfig, {"name": "lars", "weight_decay": 0}, "plain SGD"),
    ],
)
def test_contradictions(model, tree, part):
    assert part in refuse(model, tree)


def test_every_setting_has_a_sentence():
    for model in (room.DecodeConfig, room.PretrainConfig, room.FinetuneConfig, room.EvaluateConfig):
        for name, default, sentence in loading.describe(model):
            assert sentence, name
            assert default
