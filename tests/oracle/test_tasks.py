"""Every pretext task against its paper's definition, by loops or by another library."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import tasks
import torch
import torch.nn.functional as F
from lightly.loss import DINOLoss, NegativeCosineSimilarity
from lightly.models.modules import MaskedVisionTransformerTIMM
from lightly.models.utils import patchify, update_momentum
from lightly.utils.scheduler import cosine_schedule

from medssl.config import PretrainConfig
from medssl.loading import load
from medssl.methods import aim, colourisation, dino, lab, mae, moco_v2, moco_v3, painting
from medssl.methods.base import Seen
from medssl.methods.pairs import negative_cosine
from medssl.methods.slice_order import ORDERS
from medssl.methods.teacher import copy_of, follow, momentum
from medssl.models.tokens import places
from medssl.train.course import see
from medssl.train.feed import Batch
from medssl.views.square import inside


def unit(*shape, seed=0):
    stream = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=stream, dtype=torch.float64), dim=-1)


def mean_of(values):
    return sum(values) / len(values)


class Of:
    """Settings by name."""

    def __init__(self, **values):
        self.__dict__.update(values)


# ---- contrast ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [True, False])
def test_moco_v2_is_info_nce_against_the_others_of_the_queue(mask):
    q, k, queue = unit(5, 6), unit(5, 6, seed=1), unit(7, 6, seed=2)
    bag, owner = torch.tensor([0, 1, 2, 3, 3]), torch.tensor([0, 9, -1, 3, 9, -1, 1])
    config = Of(temperature=0.2, mask_same_patient=mask)
    total, equal = moco_v2.info_nce(q, k, bag, queue, owner, config)
    losses, candidates = [], []
    for i in range(5):
        keys = [queue[j] for j in range(7) if owner[j] != -1 and not (mask and owner[j] == bag[i])]
        top = math.exp(float(q[i] @ k[i]) / 0.2)
        losses.append(-math.log(top / (top + sum(math.exp(float(q[i] @ v) / 0.2) for v in keys))))
        candidates.append(math.log(1 + len(keys)))
    assert float(total) == pytest.approx(mean_of(losses), abs=1e-9)
    assert float(equal) == pytest.approx(mean_of(candidates), abs=1e-6)


def test_the_queue_holds_the_latest_keys_of_the_first_view():
    method = tasks.make("moco_v2", momentum=0.5, queue=11)
    held = []
    for turn in range(3):
        seen = tasks.batch(method, seed=turn, bag=[10 * turn + k for k in range(8)])
        method.loss(seen)
        (keys, bag), *rest = method.fresh
        assert not rest
        held += list(zip(bag.tolist(), keys, strict=True))
        method.after_step(0.1)
        now = dict(zip(method.queue_bag.tolist(), method.queue, strict=True))
        now.pop(-1, None)
        wanted = dict(held[-11:])
        assert set(now) == set(wanted)
        assert all(torch.equal(now[code], wanted[code]) for code in wanted)
        assert float(keys.norm(dim=1).sub(1).abs().max()) < 1e-5


@pytest.mark.parametrize("mask", [True, False])
def test_moco_v3_contrasts_with_the_other_views_keys(mask):
    q, k, bag, t = unit(5, 6), unit(5, 6, seed=1), [0, 0, 1, 2, 2], 0.3
    hidden = moco_v3.hidden_keys(torch.tensor(bag), mask=mask)
    losses = []
    for i in range(5):
        others = [j for j in range(5) if j == i or not (mask and bag[j] == bag[i])]
        below = sum(math.exp(float(q[i] @ k[j]) / t) for j in others)
        losses.append(-math.log(math.exp(float(q[i] @ k[i]) / t) / below))
    got = float(moco_v3.keyed(3 * q, 2 * k, hidden, t))  # lengths do not matter
    assert got == pytest.approx(2 * t * mean_of(losses), abs=1e-5)


def test_negative_cosine_is_lightlys_and_stops_the_gradient():
    p, z = unit(4, 6).requires_grad_(), unit(4, 6, seed=1).requires_grad_()
    loss = negative_cosine(2 * p, z)
    theirs = NegativeCosineSimilarity()(p.detach(), z.detach())
    assert float(loss.detach()) == pytest.approx(float(theirs), abs=1e-5)
    loss.backward()
    assert z.grad is None
    assert p.grad is not None


def test_a_slow_copy_follows_as_lightlys_does():
    student = tasks.make("simsiam").head
    ours, theirs = copy_of(student), copy_of(student)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(torch.randn_like(parameter))
    follow(ours, student, 0.9)
    update_momentum(student, theirs, 0.9)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)
        assert not a.requires_grad
    for step in range(11):
        assert momentum(0.99, step / 10) == pytest.approx(cosine_schedule(step, 11, 0.99, 1.0))


def test_barlow_twins_by_its_definition():
    method = tasks.make("barlow_twins", redundancy=0.01)
    seen = tasks.batch(method)
    z = method.head(method.encoder(seen.views.flatten(0, 1))).unflatten(0, (8, 2)).detach()
    a, b = (
        (z[:, k] - z[:, k].mean(0)) / (z[:, k].var(0, unbiased=False) + 1e-5).sqrt() for k in (0, 1)
    )
    total = 0.0
    for i, j in itertools.product(range(z.shape[2]), repeat=2):
        c = float((a[:, i] * b[:, j]).mean())
        total += (1 - c) ** 2 if i == j else 0.01 * c**2
    assert float(method.loss(seen).total.detach()) == pytest.approx(total, rel=1e-4)


def test_vicreg_by_its_definition():
    method = tasks.make("vicreg", invariance=3.0, variance=2.0, covariance=0.7)
    seen = tasks.batch(method)
    z = method.head(method.encoder(seen.views.flatten(0, 1))).unflatten(0, (8, 2)).detach().double()
    n, d = z.shape[0], z.shape[2]
    apart = float(((z[:, 0] - z[:, 1]) ** 2).mean())
    spread = cross = 0.0
    for k in (0, 1):
        centred = z[:, k] - z[:, k].mean(0)
        for i in range(d):
            deviation = math.sqrt(float((centred[:, i] ** 2).sum()) / (n - 1) + 1e-4)
            spread += max(0.0, 1 - deviation) / d / 2
            for j in range(d):
                if i != j:
                    cross += (float((centred[:, i] * centred[:, j]).sum()) / (n - 1)) ** 2 / d
    wanted = 3.0 * apart + 2.0 * spread + 0.7 * cross
    assert float(method.loss(seen).total.detach()) == pytest.approx(wanted, rel=1e-4)


def test_dino_is_lightlys():
    asked, aim_, centre = unit(6, 4, 9).float(), unit(6, 2, 9, seed=1).float(), unit(9, seed=2)
    theirs = DINOLoss(
        output_dim=9, warmup_teacher_temp=0.07, teacher_temp=0.07, student_temp=0.2,
        warmup_teacher_temp_epochs=1,
    )  # fmt: skip
    with torch.no_grad():
        (theirs.center.value if hasattr(theirs.center, "value") else theirs.center).copy_(
            centre.float()
        )
    wanted = theirs([aim_[:, k] for k in (0, 1)], [asked[:, k] for k in range(4)], epoch=5)
    got = dino.cross_entropy(asked, aim_, centre.float(), 0.2, 0.07)
    assert float(got) == pytest.approx(float(wanted), rel=1e-5)


def test_dinos_centre_is_the_running_mean_of_the_teacher():
    method = tasks.make("dino", centre_momentum=0.8)
    seen = tasks.batch(method)
    with torch.no_grad():
        out = method.slow_head(method.slow(seen.views.flatten(0, 1)))
    method.loss(seen)
    method.after_step(0.0)
    torch.testing.assert_close(method.centre, 0.2 * out.mean(0), atol=1e-5, rtol=1e-4)


def test_small_views_keep_less_and_are_smaller():
    """Of a ramp, a crop of a share of the area spans the root of that share."""
    off = "{crop_area: [1, 1], rotation_deg: 0, shift: 0, brightness: 0, contrast: 0, gamma: 0}"
    config = load(
        PretrainConfig,
        Path("configs/pretrain/simclr-cxr.yaml"),
        ("decode.size=32", f"views={off}"),
    )
    ramp = (torch.arange(32) * 2000).to(torch.int32).to(torch.uint16).expand(40, 1, 1, 32, 32)
    batch = Batch(ramp, torch.arange(40), torch.arange(40)[:, None], slice(0, 40))
    method = tasks.make("dino", small_area=(0.25, 0.36), small_views=3)
    seen = see(batch, config, 0, Of(mean=0.0, std=1.0), method)
    assert seen.views.shape == (40, 2, 1, 32, 32)
    assert seen.small.shape == (40, 3, 1, 16, 16)
    whole = seen.views[..., 0, -1] - seen.views[..., 0, 0]
    part = (seen.small[..., 0, -1] - seen.small[..., 0, 0]) / whole.mean() * (31 / 32) / (15 / 16)
    # A little less at the frame, where the ramp ends.
    assert 0.42 < float(part.min()) < 0.53
    assert 0.55 < float(part.max()) < 0.62


# ---- patches -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "dims"), [("mae", 2), ("mae", 3)])
def test_patches_are_cut_in_reading_order_and_joined_again(name, dims):
    method = tasks.make(name, dims)
    images = tasks.batch(method).views[:, 0]
    own = method.tokens
    patches = own.cut(images)
    torch.testing.assert_close(own.join(patches, 1), images)
    if dims == 2:
        torch.testing.assert_close(patches, patchify(images, own.patch[0]))
    side = own.patch[0]
    for number, at in enumerate(itertools.product(*map(range, own.grid))):
        box = tuple(slice(k * side, (k + 1) * side) for k in at)
        torch.testing.assert_close(patches[2, number], images[(2, 0, *box)].flatten())


def test_only_what_is_shown_passes_the_encoder_as_in_lightly():
    method = tasks.make("mae")
    images = tasks.batch(method).views[:, 0]
    theirs = MaskedVisionTransformerTIMM(
        vit=method.encoder.net, weight_initialization="skip", pos_embed_initialization="skip"
    )
    keep = torch.tensor([[0, 3, 7, 12]]).expand(len(images), -1)
    own = method.tokens
    tokens = own.embed(images)
    chosen = tokens[:, own.prefix :].gather(1, keep[..., None].expand(-1, -1, tokens.shape[2]))
    got = own.normalise(own.run(torch.cat([tokens[:, : own.prefix], chosen], 1)))
    with_class = torch.cat([torch.zeros_like(keep[:, :1]), keep + 1], 1)
    torch.testing.assert_close(
        got, theirs.encode(images, idx_keep=with_class), atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("dims", [2, 3])
def test_tokens_are_the_encoders_own(dims):
    """Run whole, they give the features that the encoder gives."""
    method = tasks.make("mae", dims).eval()
    images = tasks.batch(method).views[:, 0]
    found = method.tokens.normalise(method.tokens.run(method.tokens.embed(images)))
    wanted = method.encoder(images)
    got = found[:, 0] if dims == 2 else found.mean(1)
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("norm", [True, False])
def test_mae_is_judged_on_hidden_patches_alone(norm):
    method = tasks.make("mae", norm_pixels=norm).eval()
    seen = tasks.batch(method)
    seen.views[1, 0, :, :, :16] = 0.5  # half a picture that holds nothing
    with torch.no_grad():
        patches, hidden, told = method._answer(seen)
    errors = []
    for b in range(8):
        own = []
        for p in range(patches.shape[1]):
            pixels = patches[b, p].double().detach()
            if not hidden[b, p]:
                continue
            assert float(pixels.max() - pixels.min()) > 0
            if norm:
                pixels = (pixels - pixels.mean()) / (pixels.var(unbiased=False) + 1e-6).sqrt()
            own.append(float(((told[b, p].double() - pixels) ** 2).mean()))
        errors.append(mean_of(own))
    assert float(method.loss(seen).total.detach()) == pytest.approx(mean_of(errors), rel=1e-4)


def test_hidden_pixels_do_not_reach_the_answer():
    method = tasks.make("mae").eval()
    seen = tasks.batch(method)
    _, hidden, told = method._answer(seen)
    patches = method.tokens.cut(seen.views[:, 0])
    spoilt = torch.where(hidden[..., None], torch.rand_like(patches), patches)
    views = method.tokens.join(spoilt, 1)[:, None]
    _, _, again = method._answer(Seen(views, seen.bag, seen.key))
    torch.testing.assert_close(told, again)


def test_the_same_share_of_what_holds_something_is_shown():
    key = torch.randint(-(2**31), 2**31 - 1, (40, 2), dtype=torch.int32)
    seen = Seen(torch.zeros(40, 1), torch.zeros(40), key)
    nothing = torch.rand(40, 64) < torch.linspace(0, 0.9, 40)[:, None]
    order, keep, hidden = mae.hide(seen, nothing, 0.75)
    assert keep == 16
    assert (order.sort(1).values == torch.arange(64)).all()
    assert not (hidden & nothing).any()
    full = (~nothing).sum(1)
    shown = full - hidden.sum(1)
    np.testing.assert_allclose((shown / full).numpy(), 0.25, atol=0.1)
    assert not hidden.gather(1, order[:, :keep]).any()


def test_what_a_patch_may_see():
    got = aim.visible(torch.tensor([1, 3]), 5)[:, 0]
    for b, prefix in enumerate((1, 3)):
        for i, j in itertools.product(range(5), repeat=2):
            assert bool(got[b, i, j]) == (j <= i or j < prefix)


@pytest.mark.parametrize("dims", [2, 3])
def test_no_patch_knows_the_one_it_tells(dims):
    """Changing patch j beyond the prefix leaves everything told by earlier ones as it was."""
    method = tasks.make("aim", dims).eval()
    seen = tasks.batch(method)
    patches, judged, told = method._answer(seen)
    prefix = 1 + seen.choice(1, method.tokens.many - 1)[:, 0]
    later = (prefix + 1).clamp(max=method.tokens.many - 1)
    spoilt = patches.clone()
    for b in range(8):
        spoilt[b, later[b] :] = torch.rand_like(spoilt[b, later[b] :])
    views = method.tokens.join(spoilt, 1)[:, None]
    _, _, again = method._answer(Seen(views, seen.bag, seen.key))
    for b in range(8):
        j = int(later[b])
        torch.testing.assert_close(told[b, :j], again[b, :j], atol=1e-5, rtol=1e-4)
        assert not torch.equal(told[b, j], again[b, j])
        assert not judged[b, : int(prefix[b])].any()


def test_aim_is_judged_on_the_next_patch():
    method = tasks.make("aim", norm_pixels=False).eval()
    seen = tasks.batch(method)
    with torch.no_grad():
        patches, judged, told = method._answer(seen)
    errors = []
    for b in range(8):
        own = [
            float(((told[b, i] - patches[b, i + 1]) ** 2).mean())
            for i in range(patches.shape[1] - 1)
            if judged[b, i + 1]
        ]
        errors.append(mean_of(own) if own else 0.0)
    assert float(method.loss(seen).total.detach()) == pytest.approx(mean_of(errors), rel=1e-4)


def test_places_differ_and_neighbours_are_alike():
    found = places((4, 3, 2), 64)
    apart = torch.cdist(found, found)
    assert float((apart + 9 * torch.eye(24)).min()) > 0.1
    assert float(apart[0, 1]) < float(apart[0, 23])


# ---- painting ----------------------------------------------------------------------------------


def test_one_backward_pass_gives_the_gradients_of_two_steps_in_turn():
    method = tasks.make("context_encoder", loss="joint", reconstruction=0.9)
    seen = tasks.batch(method)
    method.loss(seen).total.backward()
    got = {k: p.grad.clone() for k, p in method.named_parameters()}
    truth, hole, ring, _, told = method._answer(seen)
    painted = torch.where(hole, told, truth)
    method.zero_grad()
    wrong = F.softplus(-method.judge(truth)) + F.softplus(method.judge(painted.detach()))
    (wrong.mean() / 2).backward()
    judge = {k: p.grad.clone() for k, p in method.judge.named_parameters()}
    method.zero_grad()
    weight = hole.float() + 9 * ring.float()
    parts = [
        float(weight[b].sum()) and ((told[b] - truth[b]) ** 2 * weight[b]).sum() / weight[b].sum()
        for b in range(8)
    ]
    fooled = F.softplus(-method.judge(painted)).mean()
    (0.9 * mean_of(parts) + 0.1 * fooled).backward()
    for key, parameter in method.named_parameters():
        wanted = judge[key[6:]] if key.startswith("judge.") else parameter.grad
        torch.testing.assert_close(got[key], wanted, atol=1e-5, rtol=1e-3, msg=key)


def test_the_judge_learns_at_a_tenth():
    method = tasks.make("context_encoder", loss="adversarial")
    assert {method.pace(n) for n, _ in method.judge.named_parameters(prefix="judge")} == {0.1}
    assert method.pace("encoder.net.conv1.weight") == 1.0


@pytest.mark.parametrize("place", ["centre", "anywhere"])
@pytest.mark.parametrize("dims", [2, 3])
def test_holes_lie_inside_and_are_not_shown(dims, place):
    method = tasks.make("context_encoder", dims, place=place, hole=0.5)
    seen = tasks.batch(method)
    truth, hole, ring, shown, _ = method._answer(seen)
    side = truth.shape[-1]
    for b in range(8):
        at = hole[b, 0].nonzero()
        low, high = at.amin(0), at.amax(0)
        assert ((high - low + 1 - side / 2).abs() <= 1).all()
        assert int(hole[b].sum()) == int((high - low + 1).prod())
        mean = truth[b, 0][~hole[b, 0]].mean()
        torch.testing.assert_close(shown[b, 0][hole[b, 0]], mean.expand(int(hole[b].sum())))
        assert (ring[b] <= hole[b]).all()
        assert ring[b].any()
    torch.testing.assert_close(shown[~hole], truth[~hole])


def test_without_noise_and_hole_it_is_an_autoencoder():
    method = tasks.make("denoising", noise=0.0, hole=0.0)
    seen = tasks.batch(method)
    clean, spoilt, told = method._answer(seen)
    assert torch.equal(clean, spoilt)
    assert float(method.loss(seen).total.detach()) == pytest.approx(
        float(((told - clean) ** 2).mean().detach()), rel=1e-5
    )
    noisy = tasks.make("denoising", noise=1.0, hole=0.0)
    clean, spoilt, _ = noisy._answer(seen)
    wanted = seen.uniform(4)[:, 0]
    got = (spoilt - clean).flatten(1).std(1)
    np.testing.assert_allclose(got, wanted, rtol=0.1)


def test_edges_by_loops():
    a, b = torch.rand(3, 1, 4, 5), torch.rand(3, 1, 4, 5)
    total = []
    for n in range(3):
        rows = [abs(abs(a[n, 0, i + 1, j] - a[n, 0, i, j]) - abs(b[n, 0, i + 1, j] - b[n, 0, i, j]))
                for i in range(3) for j in range(5)]  # fmt: skip
        cols = [abs(abs(a[n, 0, i, j + 1] - a[n, 0, i, j]) - abs(b[n, 0, i, j + 1] - b[n, 0, i, j]))
                for i in range(4) for j in range(4)]  # fmt: skip
        total.append((mean_of(rows) + mean_of(cols)) / 2)
    assert float(painting.edge_error(a, b)) == pytest.approx(float(mean_of(total)), rel=1e-5)


def test_a_copied_slice_has_no_skill():
    method = tasks.make("next_slice", edges=0.0)
    seen = tasks.batch(method)
    for parameter in method.decoder.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        loss = method.loss(seen)
    assert float(loss.parts["skill"]) == pytest.approx(0.0, abs=1e-6)
    wanted = float((seen.views[:, 0] - seen.views[:, 1]).abs().mean())
    assert float(loss.total) == pytest.approx(wanted, rel=1e-5)
    assert method.aligned


# ---- places, turns and orders ------------------------------------------------------------------


@pytest.mark.parametrize("dims", [2, 3])
def test_turns_are_numpys(dims):
    method = tasks.make("rotation", dims)
    seen = tasks.batch(method, bag=list(range(30)))
    turned, turn, _ = method._answer(seen)
    assert len(method.turns) == (4 if dims == 2 else 10)
    assert len({method.name(k) for k in range(len(method.turns))}) == len(method.turns)
    for b in range(30):
        quarter, plane = method.turns[int(turn[b])]
        axes = tuple(k - 2 for k in plane)
        wanted = np.rot90(seen.views[b, 0, 0].numpy(), quarter, axes)
        np.testing.assert_array_equal(turned[b, 0].numpy(), wanted)


def letterboxed(n, side, bar, seed=0):
    """Smooth random pictures between bars above and below, uint16 as stored."""
    stream = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 1, 6, 6, generator=stream)
    pictures = 0.3 + 0.7 * F.interpolate(coarse, (side, side), mode="bilinear")
    if bar:
        pictures[:, :, :bar] = pictures[:, :, -bar:] = 0
    return (pictures * 65535).round().to(torch.int32).to(torch.uint16)[:, None]


@pytest.mark.parametrize("bar", [0, 6, 10])
def test_the_letterbox_tells_neither_turn_nor_place(bar):
    """After the house's own views: neither the rim of a turned picture nor one patch gives it away."""
    config = load(PretrainConfig, Path("configs/pretrain/simclr-cxr.yaml"), ("decode.size=32",))
    course = Of(mean=0.5, std=0.25)
    batch = Batch(
        letterboxed(600, 32, bar), torch.arange(600), torch.arange(600)[:, None], slice(0, 600)
    )
    method = tasks.make("rotation")
    seen = see(batch, config, 0, course, method)
    turned, turn, _ = method._answer(seen)
    rim = [turned[:, 0, :2].mean((1, 2)) + turned[:, 0, -2:].mean((1, 2)),
           turned[:, 0, :, :2].mean((1, 2)) + turned[:, 0, :, -2:].mean((1, 2))]  # fmt: skip
    told = ((rim[0] < rim[1]) == (turn % 2 == 0)).float().mean()
    assert abs(float(told) - 0.5) < 0.08
    method = tasks.make("patch_location", downsampled=0.0, tone=0.0)
    method._disguised = lambda pairs, drawn: pairs
    pairs, place = method.patches(see(batch, config, 0, course, method))
    second = pairs[:, 1, 0]
    # A bar would darken the outer half of a patch above or below.
    step = second[:, :16].mean((1, 2)) - second[:, 16:].mean((1, 2))
    above, below = (method.where[place][:, 0] == k for k in (-1, 1))
    spread = float(step.std())
    assert abs(float(step[above].mean() - step[below].mean())) < 0.35 * spread


def test_a_square_is_cut_out_of_every_picture_by_itself():
    plain = torch.rand(3, 1, 16, 16)
    boxed = plain.clone()
    boxed[1, :, :4] = boxed[1, :, 12:] = 0
    got = inside(boxed)
    assert torch.equal(got[0], plain[0])
    assert torch.equal(got[2], plain[2])
    bright = boxed.clone()
    bright[1, :, :4] = bright[1, :, 12:] = 1
    torch.testing.assert_close(inside(bright)[1], got[1], atol=1e-5, rtol=1e-5)
    wanted = F.interpolate(plain[1:2, :, 4:12, 4:12], (16, 16), mode="bilinear")[0]
    assert float(torch.corrcoef(torch.stack([got[1].flatten(), wanted.flatten()]))[0, 1]) > 0.75
    blank = torch.zeros(2, 1, 16, 16)
    assert torch.equal(inside(blank), blank)
    volume = torch.rand(1, 1, 8, 8, 8)
    volume[:, :, :2] = 0
    assert inside(volume).amin() > 0


@pytest.mark.parametrize("dims", [2, 3])
def test_patches_lie_where_they_are_said_to(dims):
    """Pictures whose pixels are their coordinates show where a patch was cut out."""
    side = tasks.SIDES[dims]
    method = tasks.make("patch_location", dims, downsampled=0.0, jitter=1.0, gap=0.4)
    assert len(method.where) == (8 if dims == 2 else 26)
    at = (torch.arange(side) + 0.5) / side * 2 - 1
    axes = torch.meshgrid(*[at] * dims, indexing="ij")
    seen = tasks.batch(method, bag=list(range(40)))
    cut = []
    for axis in range(dims):
        views = axes[axis][None, None, None].expand(40, 1, 1, *(side,) * dims).clone()
        method._disguised = lambda pairs, drawn: pairs
        pairs, place = method.patches(Seen(views, seen.bag, seen.key))
        cut.append(pairs)
    for b in range(40):
        name = method.name(int(place[b]))
        for axis in range(dims):
            middle, other = (cut[axis][b, k] for k in (0, 1))
            apart = float(other.mean() - middle.mean())
            step = int(method.where[int(place[b])][axis])
            # Two thirds of the side, less or more by the jitter of both patches.
            assert abs(apart - step * 2 / 3) < 0.4 / 3 * 2 + 0.02, name
            if step:
                gap = (other.min() - middle.max()) if step > 0 else (middle.min() - other.max())
                assert float(gap) > -0.1
    words = {method.name(k) for k in range(len(method.where))}
    assert len(words) == len(method.where)
    assert "above left" in words
    assert method.where[[method.name(k) for k in range(len(method.where))].index("above left")][
        -2:
    ].tolist() == [-1, -1]


def test_a_patch_tells_neither_its_tone_nor_its_detail():
    method = tasks.make("patch_location", tone=0.0, downsampled=0.0)
    pairs, _ = method.patches(tasks.batch(method))
    flat = pairs.flatten(2)
    torch.testing.assert_close(flat.mean(2), torch.zeros(8, 2), atol=1e-4, rtol=0)
    torch.testing.assert_close(flat.std(2), torch.ones(8, 2), atol=1e-3, rtol=0)


def test_three_slices_are_in_order_where_the_middle_one_is():
    half = len(ORDERS) // 2
    for code, order in enumerate(ORDERS.tolist()):
        assert sorted(order) == [0, 1, 2]
        assert (order[1] == 1) == (code < half)
    method = tasks.make("slice_order")
    seen = tasks.batch(method, bag=list(range(60)))
    numbers = torch.arange(3.0).view(1, 3, 1, 1, 1).expand(60, 3, 1, 32, 32).clone()
    laid, in_order, _ = method._answer(Seen(numbers, seen.bag, seen.key))
    assert len({tuple(r) for r in laid[:, :, 0, 0, 0].tolist()}) == 6
    for b in range(60):
        assert bool(in_order[b]) == (float(laid[b, 1].mean()) == 1.0)


# ---- colours -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("colour", "wanted"),
    [
        ((1, 1, 1), (100.0, 0.0, 0.0)),
        ((0, 0, 0), (0.0, 0.0, 0.0)),
        ((1, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 1, 0), (87.74, -86.18, 83.18)),
        ((0, 0, 1), (32.30, 79.20, -107.86)),
        ((0.5, 0.5, 0.5), (53.39, 0.0, 0.0)),
    ],
)
def test_lab_of_known_colours(colour, wanted):
    """Published values of the primaries under D65."""
    got = lab.to_lab(torch.tensor(colour, dtype=torch.float64)[None])
    np.testing.assert_allclose(got[0], wanted, atol=0.05)


def test_lab_and_back():
    colours = torch.rand(4, 3, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(lab.to_colours(lab.to_lab(colours)), colours, atol=1e-5, rtol=1e-5)


def test_bins_of_the_gamut():
    bins = lab.gamut()
    assert 200 < len(bins) < 330  # the paper's gamut has 313, with a margin
    ab = torch.rand(2, 2, 3, 4) * 260 - 130  # some beside the gamut
    got = lab.nearest(ab, bins)
    for n, i, j in itertools.product(range(2), range(3), range(4)):
        apart = [float(((ab[n, :, i, j] - b) ** 2).sum()) for b in bins]
        assert apart[int(got[n, i, j])] == pytest.approx(min(apart))


def test_counts_of_codes_by_loops():
    codes = torch.randint(0, 5, (3, 4, 2))
    got = colourisation.counts(codes, 5)
    for n, k in itertools.product(range(3), range(5)):
        assert float(got[n, k]) == pytest.approx(float((codes[n] == k).float().mean()))


def test_rare_colours_weigh_more():
    share = torch.tensor([0.7, 0.2, 0.1, 0.0])
    mixed = [0.5 * s + 0.5 / 4 for s in share.tolist()]
    wanted = [1 / m for m in mixed]
    scale = sum(w * s for w, s in zip(wanted, share.tolist(), strict=True))
    torch.testing.assert_close(
        colourisation.rare(share, 1.0), torch.tensor([w / scale for w in wanted])
    )
    torch.testing.assert_close(colourisation.rare(share, 0.0), torch.ones(4))


def test_lightness_alone_reaches_the_network():
    method = tasks.make("colourisation").eval()
    seen = tasks.batch(method)
    scaled = Seen((seen.views - 0.4) / 0.3, seen.bag, seen.key, None, (0.4, 0.3))
    given = []
    method.encoder.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    method._answer(scaled)
    (images,) = given
    torch.testing.assert_close(images[:, 0], images[:, 1])
    torch.testing.assert_close(images[:, 0], images[:, 2])
    light = lab.to_lab(seen.views[:, 0].clamp(0, 1))[:, 0] / 100
    torch.testing.assert_close(images[:, 0] * 0.3 + 0.4, light, atol=1e-4, rtol=1e-4)
