"""One loop: it learns, goes on exactly where it stopped, and is the same for several processes."""

import contextlib
import functools
import io
import json
import os
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import multiprocessing, nn

from vlmbook import clip, tokenizer, train
from vlmbook.train import Settings, TrainingError, fit

os.environ["ACCELERATE_USE_CPU"] = "1"  # accelerate reads it once, whichever test comes first
BOOK = tokenizer.load()
SMALL = {"image_width": 32, "image_depth": 1, "text_width": 32, "text_depth": 1, "shared": 16}
CONFIG = clip.Config(832, size=16, stem="patch", **SMALL)

pytestmark = pytest.mark.usefixtures("small_training")


class Toy(nn.Module):
    """A matrix, a vector and a number; draws random numbers as it learns."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.linear, self.scale = nn.Linear(6, 3), nn.Parameter(torch.tensor(1.5))

    def forward(self, x):
        return F.dropout(self.linear(x) * self.scale, 0.3, self.training)


def points(step, part):
    """Inputs and what to make of them, other ones for each step."""
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))[part]
    return x, x[:, :3] - 2 * x[:, 3:]


def squares(forward, batch):
    return (forward(batch[0]) - batch[1]).square().mean()


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def at(when, act):
    """A watch that acts at one step."""
    return lambda step, model: act() if step == when else None


def interrupt(*arguments, **how):
    raise KeyboardInterrupt


TEXTS = ["a red cube", "a cone", "a cube", "a blue egg"]
LONG = ["a red cube to the left of a small green metal cylinder", "빨간 구와 파란 원뿔이 있어요."]
CAPTIONS = TEXTS + [LONG[0], TEXTS[1], TEXTS[1], LONG[1]]  # one occurs three times, in both halves


def pairs(step, part):
    """Pixels (b, 3, 16, 16) and two captions each, so that one half's are longer than the other's."""
    pixels = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(step))
    other = ["이것은 " + text for text in CAPTIONS]
    return pixels[part], *BOOK.batch(CAPTIONS[part] + other[part])


def small_clip():
    torch.manual_seed(3)
    return clip.build(CONFIG)


def test_one_batch_is_learnt_and_the_model_left_ready():
    model = small_clip()
    history = fit(model, train.contrastive, lambda _, part: pairs(0, part), Settings(60, 8, 5e-3))
    assert len(history.loss) == 60 and history.loss[-1] < 0.4 * history.loss[0]
    assert history.seconds > 0 and not model.training
    for stopped in (1e-9, 1.0):  # the loss isn't small by itself, nor by any learning rate
        model = small_clip()
        loss = fit(model, train.contrastive, lambda _, p: pairs(0, p), Settings(60, 8, stopped)).loss
        assert loss[-1] > 0.8 * history.loss[0]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"steps": 0}, "steps 0 must be more than 0"),
        ({"batch": -1}, "batch -1 must be more than 0"),
        ({"rate": 0.0}, "rate 0.0 must be more than 0"),
        ({"clip": float("nan")}, "clip nan must be more than 0"),
        ({"precision": "fp8"}, "precision 'fp8' does not exist; choose from fp32, bf16"),
    ],
)
def test_settings_that_make_no_sense_are_refused(how, message):
    with pytest.raises(ValueError, match=message):
        Settings(**{"steps": 5, "batch": 8} | how)


def test_the_rate_rises_and_falls():
    settings = Settings(200, 8, rate=0.2, warm_up=20)
    rates = [settings.rate_at(step) for step in range(200)]
    assert rates[0] == pytest.approx(0.2 / 20)
    assert rates[:20] == sorted(rates[:20]) and rates[19:] == sorted(rates[19:], reverse=True)
    assert 0.97 * 0.2 < max(rates) <= 0.2
    assert rates[100] == pytest.approx(0.1) and 0 < rates[-1] < 1e-3 * 0.2
    assert Settings(10, 8, 0.2, warm_up=0).rate_at(0) == 0.2


def test_only_matrices_decay_at_the_rate_of_the_step():
    model, settings = Toy(), Settings(5, 8, rate=0.1, warm_up=2, weight_decay=0.5)
    before = state(model)
    fit(model, lambda forward, batch: 0 * squares(forward, batch), points, settings)
    left = 1.0
    for step in range(5):
        left *= 1 - 0.5 * settings.rate_at(step)
    after = state(model)
    torch.testing.assert_close(after["linear.weight"], left * before["linear.weight"])
    assert left < 0.9
    for name in ("linear.bias", "scale"):
        assert torch.equal(after[name], before[name])


def test_long_gradients_are_cut_and_short_ones_not():
    lengths = {}

    def watch(step, model):
        lengths[step] = torch.stack([p.grad.norm() for p in model.parameters()]).norm().item()

    fit(Toy(), squares, points, Settings(3, 8, clip=1e-3), watch=watch)
    assert lengths == pytest.approx(dict.fromkeys(range(3), 1e-3), rel=1e-2)
    fit(Toy(), squares, points, Settings(1, 8, clip=1e6), watch=watch)
    model = Toy().train()
    squares(model, points(0, slice(0, 8))).backward()
    own = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
    assert lengths[0] == pytest.approx(own.item()) and own > 1


def test_watch_sees_each_step_done_and_old_gradients_are_forgotten():
    model, seen = Toy(), []
    before = state(model)
    model.linear.weight.grad = torch.full((3, 6), 7.0)  # left by somebody else

    def watch(step, watched):
        assert watched is model
        seen.append((step, model.linear.weight.grad.clone(), state(model)))

    fit(model, squares, points, Settings(3, 8, clip=1e6), watch=watch)
    assert [step for step, *_ in seen] == [0, 1, 2]
    assert not torch.equal(seen[0][2]["scale"], before["scale"])
    again = []
    fit(Toy(), squares, points, Settings(1, 8, clip=1e6), watch=lambda _, m: again.append(m))
    fresh = Toy().train()
    squares(fresh, points(0, slice(0, 8))).backward()
    torch.testing.assert_close(seen[0][1], fresh.linear.weight.grad)


def test_sixteen_bits_compute_the_model_and_not_the_loss():
    inside, outside, losses = set(), set(), {}

    def loss(forward, batch):
        found = forward(batch[0])
        outside.add(found.dtype)
        return (found - batch[1]).square().mean()

    for precision in train.PRECISIONS:
        model = Toy()
        model.linear.register_forward_hook(lambda *given: inside.add(given[2].dtype))
        settings = Settings(6, 8, 1e-2, warm_up=2, precision=precision)
        losses[precision] = fit(model, loss, points, settings).loss
        assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert inside == {torch.float32, torch.bfloat16} and outside == {torch.float32}
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=2e-2) != losses["fp32"]
    settings = Settings(2, 8, precision="bf16")
    half = fit(small_clip(), train.contrastive, pairs, settings).loss
    assert half == pytest.approx(
        fit(small_clip(), train.contrastive, pairs, Settings(2, 8)).loss, rel=2e-2
    )


def test_compiling_is_asked_for(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda model: compiled.append(model) or model)
    model = Toy()
    fit(model, squares, points, Settings(1, 8))
    assert compiled == []
    fit(model, squares, points, Settings(1, 8, compile=True))
    assert compiled == [model]


def test_the_bar_tells_loss_and_pairs_a_second(capsys, tmp_path):
    fit(Toy(), squares, points, Settings(4, 8), tmp_path / "run")
    history = fit(Toy(), squares, points, Settings(4, 8), tmp_path / "run")
    out, told = capsys.readouterr()
    assert out == "" and told.count("32.0/32.0") == 2
    assert f"loss={history.loss[-1]:.3f}" in told and "pairs/s" in told


SETTINGS = Settings(7, 8, 1e-2, warm_up=2)


@pytest.fixture
def whole(tmp_path):
    """What a run that nobody interrupted gives, kept every two steps."""
    model = Toy()
    history = fit(model, squares, points, SETTINGS, tmp_path / "whole", keep_every=2)
    return history.loss, state(model)


def go_on(folder, batch=points, **how):
    """Start again, with another model and another state of the random numbers."""
    model = Toy(seed=99)
    history = fit(model, squares, batch, SETTINGS, folder, keep_every=2, **how)
    return history, state(model)


@pytest.mark.parametrize(("where", "kept"), [("watch", 2), ("batch", 4)])
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(whole, tmp_path, where, kept):
    folder, drawn = tmp_path / "run", []

    def stopped(step, part):
        return interrupt() if (step, where) == (5, "batch") else points(step, part)

    def counted(step, part):
        drawn.append(step)
        return points(step, part)

    watch = at(3, interrupt) if where == "watch" else None
    with pytest.raises(KeyboardInterrupt):
        fit(Toy(), squares, stopped, SETTINGS, folder, keep_every=2, watch=watch)
    history, after = go_on(folder, counted)
    assert drawn == list(range(kept, 7))
    assert history.loss == whole[0] and same(after, whole[1])
    other = fit(Toy(seed=99), squares, points, SETTINGS)  # without the folder it is another run
    assert other.loss[kept:] != whole[0][kept:]


def test_a_finished_run_trains_nothing(whole, tmp_path):
    told = json.loads((tmp_path / "whole" / train.PROGRESS).read_text())
    history, after = go_on(tmp_path / "whole", interrupt)
    assert history.loss == whole[0] == told["loss"] and history.seconds == told["seconds"] > 0
    assert same(after, whole[1])


def half_written(accelerator, folder):
    (Path(folder) / "model.safetensors").write_text("half")
    raise KeyboardInterrupt


def second_rename(rename=Path.rename, count=[]):
    """A Path.rename that is killed before it does its work for the second time."""
    done = []

    def killed(self, target):
        done.append(target)
        return interrupt() if len(done) == 3 else rename(self, target)

    return killed


@pytest.mark.parametrize(
    ("what", "name", "how"),
    [(Accelerator, "save_state", half_written), (Path, "rename", second_rename())],
    ids=["while writing", "between the old and the new"],
)
def test_an_interrupted_save_leaves_the_last_whole_one(whole, tmp_path, what, name, how):
    folder = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        watch = at(3, lambda: patch.setattr(what, name, how))
        fit(Toy(), squares, points, SETTINGS, folder, keep_every=2, watch=watch)
    drawn = []
    history, after = go_on(folder, lambda step, part: drawn.append(step) or points(step, part))
    assert drawn[0] == 2 and history.loss == whole[0] and same(after, whole[1])
    assert {path.name for path in tmp_path.iterdir()} == {"run", "whole"}  # nothing is left over


def test_a_run_of_other_settings_is_not_gone_on_with(whole, tmp_path):
    other = Settings(7, 8, 2e-2, warm_up=3)
    message = "whole holds a run of other settings .rate was 0.01 and is 0.02, warm_up was 2 and is 3"
    with pytest.raises(TrainingError, match=message):
        fit(Toy(), squares, points, other, tmp_path / "whole")
    assert go_on(tmp_path / "whole", interrupt)[0].loss == whole[0]


def steep(forward, batch):
    """A loss that is 0 where the batch is 0, with a gradient that is infinite there."""
    return squares(forward, batch) + forward(batch[0]).square().sum().sqrt() * 0


def bad_loss(step, part):
    x, y = points(step, part)
    return x, y * (float("nan") if step == 5 else 1)
