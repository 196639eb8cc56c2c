"""Every method of the table through one door, on images and on volumes."""

import copy
import math
import re

import pytest
import tasks
import torch
from tasks import make, settings

from medssl.config import EncoderConfig, PretrainConfig
from medssl.errors import UsageError
from medssl.loading import validate
from medssl.methods import METHODS, build_method
from medssl.methods.base import Seen
from medssl.models import thrift
from medssl.models.encoder import build

CASES = tasks.sensible()
PAIRS = sorted(n for n in METHODS if settings(n).method.alike)
MASKED = sorted(n for n in PAIRS if "mask_same_patient" in type(settings(n).method).model_fields)
# Another value for every field that acts on the loss of one batch, or on what follows a step.
VARIED = {
    "temperature": 0.9, "hidden": 24, "out": 12, "mask_same_patient": False, "queue": 5,
    "momentum": 0.5, "bottleneck": 12, "redundancy": 0.5, "invariance": 1.0, "variance": 1.0,
    "covariance": 9.0, "teacher_temperature": 0.2, "centre_momentum": 0.2, "small_views": 1,
    "small_area": (0.5, 0.9), "hidden_share": 0.5, "norm_pixels": False, "decoder_width": 64,
    "decoder_depth": 1, "head_layers": 0, "loss": "joint", "reconstruction": 0.5, "hole": 0.4,
    "place": "anywhere", "rim": 0.2, "noise": 2.0, "error": "l1", "gap": 0.6, "jitter": 0.0,
    "downsampled": 1.0, "tone": 0.8, "rebalance": 0.0, "edges": 3.0,
}  # fmt: skip
BESIDE = {"reconstruction": {"loss": "joint"}}
# Fields that say what is drawn; tests/oracle/test_draw*.py and tests/cli see them act.
DRAWN = {"name", "images", "single_images", "bag", "within_slices", "differ", "small_area"}


@pytest.fixture(params=CASES, ids=[f"{n}-{d}d" for n, d in CASES])
def case(request):
    return request.param


def test_table_is_the_union_of_settings():
    """A method with settings and no line in the table, or the reverse, is a forgotten touch."""
    for name in METHODS:
        assert settings(name).method.name == name
    field = PretrainConfig.model_fields["method"]
    named = {m.model_fields["name"].annotation.__args__[0] for m in field.annotation.__args__}
    assert named == set(METHODS)


def test_finite_and_reaches_the_first_layer(case):
    method = make(*case)
    tasks.step(method, tasks.batch(method), torch.optim.SGD(method.parameters(), lr=1e-3))
    method.zero_grad()  # a queue is empty before the first step
    loss = method.loss(tasks.batch(method, seed=1))
    assert torch.isfinite(loss.total)
    assert all(torch.isfinite(v) and v.ndim == 0 for v in loss.parts.values())
    assert loss.parts
    loss.total.backward()
    first = next(p for p in method.encoder.parameters() if p.ndim > 3)
    assert first.grad is not None
    assert float(first.grad.abs().sum()) > 0
    # A weight without a gradient would keep the other processes of a job waiting.
    assert not [k for k, p in method.named_parameters() if p.requires_grad and p.grad is None]


def test_loss_falls(case):
    method = make(*case)
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=2e-3)
    many = 12 if case[1] == 2 else 6
    values = [tasks.step(method, tasks.batch(method), optimizer) for _ in range(many)]
    begin = 2 if case[0] == "moco_v2" else 0  # a loss with an empty queue is 0
    assert min(values[-3:]) < values[begin] - 0.01 * abs(values[begin])


def test_order_of_the_batch_does_not_matter(case):
    method = make(*case)
    seen = tasks.batch(method)
    order = torch.randperm(len(seen.bag), generator=torch.Generator().manual_seed(3))
    first, second = method.loss(seen).total, method.loss(tasks.part(seen, order)).total
    torch.testing.assert_close(first, second, atol=1e-4, rtol=1e-4)


def test_a_stopped_training_goes_on_to_the_same_weights(case):
    """Queues, centres and slow encoders are state: bit for bit."""
    method = make(*case)
    learnt = [p for p in method.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learnt, lr=1e-2, momentum=0.9)
    tasks.step(method, tasks.batch(method), optimizer)
    state = copy.deepcopy((method.state_dict(), optimizer.state_dict()))
    for _ in range(2):
        wanted = tasks.step(method, tasks.batch(method, seed=2), optimizer)
    other = make(*case)
    again = torch.optim.SGD(
        [p for p in other.parameters() if p.requires_grad], lr=1e-2, momentum=0.9
    )
    other.load_state_dict(state[0])
    again.load_state_dict(state[1])
    for _ in range(2):
        got = tasks.step(other, tasks.batch(other, seed=2), again)
    assert got == wanted
    for key, value in method.state_dict().items():
        assert torch.equal(other.state_dict()[key], value), key


def test_bf16_is_near(case):
    method = make(*case)
    seen = tasks.batch(method)
    plain = method.loss(seen).total
    with torch.autocast("cpu", torch.bfloat16):
        half = method.loss(seen).total
    torch.testing.assert_close(plain, half.float(), atol=0.15, rtol=0.1)


def told(method):
    """What one step says and leaves behind."""
    seen = tasks.batch(method, seed=1)
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=1e-2)
    first = tasks.step(method, seen, optimizer)
    second = tasks.step(method, seen, optimizer)
    return first, second, tasks.step(method, seen, optimizer)


def fields():
    for name in sorted(METHODS):
        for field in type(settings(name).method).model_fields:
            if field not in DRAWN:
                yield name, field


@pytest.mark.parametrize(("name", "field"), list(fields()))
def test_each_setting_changes_something(name, field):
    beside = BESIDE.get(field, {})
    plain, varied = make(name, **beside), make(name, **beside, **{field: VARIED[field]})
    assert told(plain) != told(varied)


@pytest.mark.parametrize("name", PAIRS)
def test_every_method_of_pairs_has_its_patient_form(name):
    """images=2 draws two images of one patient, one view each, and the loss is the same function."""
    method = make(name, images=2)
    assert (method.images, method.views) == (2, 1)
    assert settings(name, images=2).method.drawn == "pairs"
    if name != "micle":
        one = make(name)
        assert (one.images, one.views) == (1, 2)
        seen = tasks.batch(one)
        torch.testing.assert_close(one.loss(seen).total, method.loss(seen).total)
        with pytest.raises(UsageError, match="set images=2"):
            settings(name, bag="study_id")
    seen = tasks.batch(method)
    other = Seen(seen.views.clone(), seen.bag, seen.key, seen.small)
    other.views[:, 1] = torch.rand_like(other.views[:, 1])
    # One step fills a queue.
    tasks.step(method, seen, torch.optim.SGD(method.head.parameters(), lr=0.0))
    assert float(method.loss(seen).total.detach()) != float(method.loss(other).total.detach())


@pytest.mark.parametrize("name", [n for n in MASKED if n != "micle"])
@pytest.mark.parametrize("images", [1, 2])
def test_images_of_one_patient_are_never_negatives(name, images):
    """With everyone the same patient no candidate is left but the partner."""
    method = make(name, images=images)
    seen = tasks.batch(method, bag=[5] * 8)
    tasks.step(method, seen, torch.optim.SGD(method.head.parameters(), lr=0.0))
    assert float(method.loss(seen).total.detach()) == pytest.approx(0.0, abs=1e-6)
    plain = make(name, images=images, mask_same_patient=False)
    tasks.step(plain, seen, torch.optim.SGD(plain.head.parameters(), lr=0.0))
    assert float(plain.loss(seen).total.detach()) > 0.1


@pytest.mark.parametrize("name", ["moco_v2", "moco_v3", "byol", "dino"])
def test_slow_encoders_follow(name):
    """Encoder and head alike move by the same share of the way to the student."""
    method = make(name, momentum=0.7)
    with torch.no_grad():
        for parameter in [*method.encoder.parameters(), *method.head.parameters()]:
            parameter.add_(0.1)
    before = copy.deepcopy(method.state_dict())
    method.after_step(0.25)
    share = 0.7 if name == "moco_v2" else 1 - 0.3 * (math.cos(math.pi * 0.25) + 1) / 2
    for slow, fast in (("slow", "encoder"), ("slow_head", "head")):
        for key, parameter in getattr(method, slow).named_parameters():
            old, new = before[f"{slow}.{key}"], before[f"{fast}.{key}"]
            torch.testing.assert_close(parameter, share * old + (1 - share) * new)


def test_every_task_has_its_picture(case):
    method = make(*case).eval()
    seen = tasks.batch(method)
    picture = method.picture(seen)
    assert picture.tiles.shape[:2] == (len(seen.bag), len(picture.columns))
    assert picture.tiles.shape[2:] == seen.views.shape[2:]
    assert torch.isfinite(picture.tiles).all()
    assert len(picture.words) in {0, len(seen.bag)}
    assert picture.figures
    assert all(isinstance(v, float) for v in picture.figures.values())


@pytest.mark.parametrize("name", sorted(set(METHODS) - {n for n, d in CASES if d == 3}))
def test_tasks_that_make_no_sense_of_volumes_say_so(name):
    with pytest.raises(UsageError, match=f"{name} is a task of images and slices|colour=rgb is of"):
        settings(name, dims=3)


@pytest.mark.parametrize("name", sorted(tasks.TRANSFORMERS))
def test_tasks_of_patches_ask_for_a_transformer(name, monkeypatch):
    real = tasks.encoder_config
    monkeypatch.setattr(tasks, "encoder_config", lambda n, d, norm: real("simclr", d, norm))
    with pytest.raises(UsageError, match=r"vision transformer.*vit_tiny"):
        make(name)


def test_rotation_refuses_pictures_without_an_upright():
    tree = {"method": {"name": "rotation"}, "views": {"flip_vertical": True}}
    with pytest.raises(UsageError, match="no upright"):
        validate(PretrainConfig, tree, "test")


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"method": {"name": "dino", "small_area": (0.9, 0.1)}}, "0 < low <= high"),
        (
            {"method": {"name": "dino", "small_views": 0, "small_area": (0.2, 0.3)}},
            "small_views is 0",
        ),
        (
            {"method": {"name": "simclr", "images": 2, "within_slices": 1, "bag": "study_id"}},
            "leave out bag",
        ),
        ({"method": {"name": "mae"}, "chunk": 8}, "chunk and compile do nothing"),
        ({"method": {"name": "aim"}, "compile": True}, "chunk and compile do nothing"),
        (
            {
                "method": {"name": "colourisation"},
                "decode": {"colour": "rgb"},
                "views": {"hue_deg": 5, "grey_probability": 0.1},
            },
            "views.hue_deg, views.grey_probability would change",
        ),
        ({"method": {"name": "context_encoder", "reconstruction": 0.5}}, "loss=joint"),
    ],
)
def test_settings_that_contradict_their_task_are_refused(tree, words):
    with pytest.raises(UsageError, match=re.escape(words)):
        validate(PretrainConfig, tree, "test")


@pytest.mark.parametrize("width", [16, 48, 80, 144])
def test_any_width_of_a_decoder(width):
    method = make("denoising", decoder_width=width)
    assert torch.isfinite(method.loss(tasks.batch(method)).total)


@pytest.mark.parametrize(("name", "dims"), [("mae", 2), ("aim", 2), ("mae", 3)])
def test_transformers_forget_their_blocks(name, dims):
    method, twin = make(name, dims), make(name, dims)
    thrift.forget_blocks(twin.encoder.net, name)
    seen = tasks.batch(method)
    for one in (method, twin):
        one.loss(seen).total.backward()
    for a, b in zip(method.parameters(), twin.parameters(), strict=True):
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, atol=1e-6, rtol=1e-4)


def test_the_class_token_is_trained():
    """It is what the encoder's features are, unless they are the mean."""
    method = make("mae")
    kept = []
    real = method.tokens.run
    method.tokens.run = lambda tokens: kept.append(real(tokens)) or kept[0]
    loss = method.loss(tasks.batch(method)).total
    kept[0].retain_grad()
    loss.backward()
    assert float(kept[0].grad[:, 0].abs().sum()) > 0


@pytest.mark.parametrize("net", ["vit_base_patch16_siglip_224", "vit_tiny_r_s16_p8_224"])
def test_networks_with_more_than_patches_are_refused(net):
    size = 32
    encoder = build(EncoderConfig(name=net), size, whole=False, seed=0)
    with pytest.raises(UsageError, match="plain vision transformer"):
        build_method(settings("mae").method, encoder, 0)


def test_colours_are_asked_for():
    with pytest.raises(UsageError, match=r"decode\.colour=rgb"):
        validate(PretrainConfig, {"method": {"name": "colourisation"}}, "test")
