"""One loop: it learns, goes on exactly where it stopped, and gives several processes the same."""

import datetime
import io
import json
import os
import shutil
import warnings
from contextlib import redirect_stderr
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import multiprocessing, nn

from vlmbook import blip, clip, tokenizer, train
from vlmbook.train import Settings, TrainingError, fit

os.environ["ACCELERATE_USE_CPU"] = "1"  # accelerate reads it once, whichever test comes first
BOOK = tokenizer.load()

pytestmark = pytest.mark.usefixtures("small_training")


class Toy(nn.Module):
    """A matrix, a vector and a number, and random numbers in training."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.linear, self.factor = nn.Linear(6, 3), nn.Parameter(torch.tensor(1.5))

    def forward(self, x):
        return F.dropout(self.linear(x) * self.factor, 0.3, self.training)


def points(step, part):
    """Inputs (b, 6) and what is to be made of them (b, 3)."""
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))[part]
    return x, x[:, :3] - 2 * x[:, 3:]


def squares(forward, batch):
    return (forward(batch[0]) - batch[1]).square().mean()


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def gradients(model):
    return {name: weights.grad.clone() for name, weights in model.named_parameters()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def interrupt(*arguments):
    raise KeyboardInterrupt


def at(when, act):
    """A watch that acts after one step."""
    return lambda step, model: act() if step == when else None


SHORT = ["a red cube", "a cone", "a cube", "a blue egg"]
LONG = ["a red cube to the left of a small green metal cylinder", "빨간 구와 파란 원뿔이 있어요."]
TEXTS = [*SHORT, LONG[0], SHORT[1], SHORT[1], LONG[1]]  # one text three times, in both halves


def pairs(step, part):
    """Pixels (b, 3, 16, 16) and two captions of each, ids and mask (2 b, T)."""
    pixels = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(step))
    return pixels[part], *BOOK.batch([*TEXTS[part], *("이것은 " + text for text in TEXTS[part])])


def small_clip():
    torch.manual_seed(3)
    sizes = {"image_width": 32, "image_depth": 1, "text_width": 32, "text_depth": 1, "shared": 16}
    return clip.build(clip.Config(len(BOOK), size=16, **sizes))


def lessons(step, part):
    """Pictures, what is said of them, and questions; the second half of a step has more of both."""
    pixels, rows = pairs(step, part)[0], range(8)[part]
    said = torch.tensor([TEXTS.index(text) for text in TEXTS[part]])
    asked = [(n, row) for n, row in enumerate(rows) for _ in range(1 + row // 3)]
    languages = torch.tensor([list(blip.LANGUAGES.values())[row % 2] for row in rows])
    picture = torch.tensor([n for n, _ in asked])
    question, question_mask = BOOK.batch([TEXTS[row] for _, row in asked])
    return blip.Batch(
        pixels,
        *BOOK.batch(TEXTS[part]),
        language=languages,
        about=torch.stack([torch.tensor(rows), said], 1),
        question=question,
        question_mask=question_mask,
        answer=question,
        picture=picture,
        spoken=languages[picture],
    )


def small_blip():
    torch.manual_seed(3)
    sizes = {"image_width": 32, "image_depth": 1, "image_heads": 2, "shared": 16}
    sizes |= {"text_width": 32, "text_depth": 1, "text_heads": 2}
    return blip.build(blip.Config(len(BOOK), size=16, **sizes))


def all_but_matching(forward, batch):
    """BLIP's losses; ITM's negatives are a process's own, so it has no share here."""
    return train.multitask(forward, batch, train.SHARES | {"itm": 0.0})


CLIP = small_clip, train.contrastive, pairs
BLIP = small_blip, all_but_matching, lessons


def trained(folder=None, kind=CLIP, **how):
    """Losses, gradients of each step and weights of a small model after three steps."""
    (build, loss, batch), grads = kind, []
    model = build()
    settings = Settings(3, 8, warm_up=2, clip=1e9)  # cutting would hide a gradient twice as long
    watch = how.pop("watch", lambda step, model: grads.append(gradients(model)))
    history = fit(model, loss, batch, settings, folder, watch=watch, **how)
    return {"loss": history.loss, "grads": grads, "weights": state(model)}


@pytest.mark.parametrize(("rate", "least", "most"), [(5e-3, 0, 0.4), (1e-9, 0.8, 1.2)])
def test_one_batch_is_learnt_unless_the_rate_is_nothing(rate, least, most):
    model = small_clip()
    history = fit(model, train.contrastive, lambda _, p: pairs(0, p), Settings(40, 8, rate, 5))
    assert len(history.loss) == 40 and history.seconds > 0 and not model.training
    assert least < history.loss[-1] / history.loss[0] < most


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


def test_matrices_alone_decay_and_at_the_rate_of_the_step():
    model, settings = Toy(), Settings(5, 8, rate=0.1, warm_up=2, weight_decay=0.5)
    before, left = state(model), 1.0
    fit(model, lambda forward, batch: 0 * squares(forward, batch), points, settings)
    for step in range(5):
        left *= 1 - 0.5 * settings.rate_at(step)
    assert left < 0.9
    torch.testing.assert_close(model.linear.weight, left * before["linear.weight"])
    assert torch.equal(model.linear.bias, before["linear.bias"])
    assert torch.equal(model.factor, before["factor"])


def test_watch_sees_a_step_done_with_its_gradients_cut_and_no_others():
    fresh = Toy().train()
    value = squares(fresh, points(0, slice(0, 8)))
    value.backward()
    own = gradients(fresh)
    length = torch.stack([grad.norm() for grad in own.values()]).norm().item()
    for longest in (length / 50, length * 50):
        model, seen = Toy(), []
        model.linear.weight.grad = torch.full((3, 6), 7.0)  # left there by somebody else

        def watch(step, watched, seen=seen):
            seen.append((step, gradients(watched), state(watched)))

        history = fit(model, squares, points, Settings(3, 8, clip=longest), watch=watch)
        assert history.loss[0] == value.item()
        assert [step for step, *_ in seen] == [0, 1, 2]
        assert same(seen[2][2], state(model)) and not same(seen[0][2], state(Toy()))
        for name, grad in seen[0][1].items():
            torch.testing.assert_close(grad, own[name] * min(1, longest / length))


def test_sixteen_bits_compute_the_model_and_not_the_loss():
    inside, outside, losses = [], set(), {}

    def loss(forward, batch):
        found = forward(batch[0])
        outside.update({found.dtype, (found @ found.T).dtype})
        return squares(forward, batch)

    for precision in train.PRECISIONS:
        model = Toy()
        model.linear.register_forward_hook(lambda *given: inside.append(given[2].dtype))
        losses[precision] = fit(model, loss, points, Settings(4, 8, precision=precision)).loss
        assert {weights.dtype for weights in model.parameters()} == {torch.float32}
    assert inside == [torch.float32] * 8 + [torch.bfloat16] * 8 and outside == {torch.float32}
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=2e-2)
    half = fit(small_clip(), train.contrastive, pairs, Settings(1, 8, precision="bf16")).loss
    assert half == pytest.approx(trained()["loss"][:1], rel=2e-2) and half != trained()["loss"][:1]


def test_compiling_is_asked_for(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda model: compiled.append(model) or model)
    fit(model := Toy(), squares, points, Settings(1, 8))
    assert compiled == []
    fit(model, squares, points, Settings(1, 8, compile=True))
    assert compiled == [model]


def test_the_bar_tells_loss_and_pairs_a_second(capsys):
    history = fit(Toy(), squares, points, Settings(4, 8))
    out, told = capsys.readouterr()
    assert out == "" and "32/32" in told
    assert f"loss={history.loss[-1]:.3f}" in told and "pairs/s" in told


def test_batches_that_processes_cannot_share_are_refused(monkeypatch):
    Accelerator()  # has looked at the surroundings before they change
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(
        TrainingError,
        match="2 processes were started, and accelerate sees 1; .*ACCELERATE_USE_CPU=1",
    ):
        fit(Toy(), squares, points, Settings(1, 8))  # each would train all by itself
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setattr(Accelerator, "num_processes", 3)
    with pytest.raises(ValueError, match="batch 8 can't be shared among 3 processes; try 6"):
        fit(Toy(), squares, points, Settings(1, 8))
    with pytest.raises(ValueError, match="batch 2 can't be shared among 3 processes; try 3"):
        fit(Toy(), squares, points, Settings(1, 2))


SETTINGS = Settings(7, 8, 1e-2, warm_up=2)


@pytest.fixture
def whole(tmp_path):
    """The losses and weights of a run that nobody interrupted, kept as tmp_path / "whole"."""
    model = Toy()
    history = fit(model, squares, points, SETTINGS, tmp_path / "whole", keep_every=2)
    return history.loss, state(model)


def again(folder, kept, whole):
    """Go on, with new weights and random numbers; what was kept is not done again."""
    model, drawn = Toy(seed=99).eval(), []

    def batch(step, part):
        drawn.append(step)
        return points(step, part)

    history = fit(model, squares, batch, SETTINGS, folder, keep_every=2)
    assert drawn == list(range(kept, 7))
    assert history.loss == whole[0] and same(state(model), whole[1])
    return history


@pytest.mark.parametrize(("where", "kept"), [("watch", 2), ("batch", 4)])
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(whole, tmp_path, where, kept):
    def batch(step, part):
        return interrupt() if (step, where) == (5, "batch") else points(step, part)

    watch = at(3, interrupt) if where == "watch" else None
    with pytest.raises(KeyboardInterrupt):
        fit(Toy(), squares, batch, SETTINGS, tmp_path / "run", keep_every=2, watch=watch)
    again(tmp_path / "run", kept, whole)
    with pytest.raises(AssertionError):  # elsewhere it is another run
        again(tmp_path / "new", 0, whole)


def test_a_finished_run_trains_nothing(whole, tmp_path, capsys):
    path = tmp_path / "whole" / train.PROGRESS
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seconds": 1000.0}))
    assert again(tmp_path / "whole", 7, whole).seconds == 1000
    assert "100%" in capsys.readouterr().err


def half_written(accelerator, folder):
    (Path(folder) / "model.safetensors").write_text("half")
    interrupt()


def moved(old, new, rename=Path.rename):
    """Path.rename, killed where the old folder has gone and the new one is to come."""
    return interrupt() if old.name.endswith("partial") else rename(old, new)


@pytest.mark.parametrize(
    ("what", "name", "killed"),
    [(Accelerator, "save_state", half_written), (Path, "rename", moved)],
    ids=["while it is written", "between the old and the new"],
)
def test_an_interrupted_save_leaves_the_last_whole_one(whole, tmp_path, what, name, killed):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        watch = at(3, lambda: patch.setattr(what, name, killed))
        fit(Toy(), squares, points, SETTINGS, tmp_path / "run", keep_every=2, watch=watch)
    again(tmp_path / "run", 2, whole)
    assert {path.name for path in tmp_path.iterdir()} == {"run", "whole"}  # nothing is left over


def test_folders_that_hold_anything_else_are_left_alone(whole, tmp_path):
    other, told = (
        Settings(7, 8, 2e-2, warm_up=3),
        "rate was 0.01 and is 0.02, warm_up was 2 and is 3",
    )
    with pytest.raises(TrainingError, match=rf"whole holds a run of other settings \({told}\)"):
        fit(Toy(), squares, points, other, tmp_path / "whole")
    again(tmp_path / "whole", 7, whole)
    work = tmp_path / "thesis" / "chapter.txt"
    work.parent.mkdir()
    fit(Toy(), squares, points, Settings(1, 8), work.parent)  # an empty one is taken
    shutil.rmtree(work.parent)
    work.parent.mkdir()
    work.write_text("years of work")
    with pytest.raises(TrainingError, match="thesis holds something else than a run; pass another"):
        fit(Toy(), squares, points, SETTINGS, work.parent)
    assert work.read_text() == "years of work"


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_numbers_that_are_not_finite_stop_before_they_reach_the_weights(whole, tmp_path, what):
    def batch(step, part):
        return *points(step, part), step == 5

    def loss(forward, batch):
        value = squares(forward, batch)
        if not batch[2]:
            return value
        return value / 0 if what == "loss" else value + (value - value.detach()).sqrt()

    def stops(message, *where, **how):
        model, kept = Toy(), []
        watch = at(4, lambda: kept.append(state(model)))
        with pytest.raises(TrainingError, match=f"the {what} at step 5 is (inf|nan); {message}"):
            fit(model, loss, batch, SETTINGS, *where, watch=watch, **how)
        assert same(state(model), kept[0])

    stops("nothing was kept, since no folder was given; try a lower rate")
    stops(f"{tmp_path}/run keeps nothing yet", tmp_path / "run", keep_every=6)
    stops(f"{tmp_path}/run keeps step 4", tmp_path / "run", keep_every=2)
    again(tmp_path / "run", 4, whole)


def slow_contrastive(image_emb, text_emb, scale):
    """Softmaxes over pictures and over texts in loops, for each set of captions by itself."""
    total, num = 0.0, len(image_emb)
    for k in range(0, len(text_emb), num):
        own = text_emb[k : k + num]
        for i in range(num):
            for one, others in ((image_emb[i], own), (own[i], image_emb)):
                total = total - (scale * others @ one).log_softmax(0)[i]
    return total / (2 * len(text_emb))


@pytest.mark.parametrize("texts", [TEXTS, TEXTS + TEXTS[1:] + TEXTS[:1]], ids=["K=1", "K=2"])
def test_the_contrastive_loss_is_its_definition(texts):
    made = [F.normalize(torch.randn(num, 5), dim=1) for num in (8, len(texts))]
    given = [x.requires_grad_() for x in (*made, torch.tensor(4.0))]
    ours = train.contrastive(lambda *batch: given, (torch.zeros(8, 3), *BOOK.batch(texts)))
    theirs = slow_contrastive(*given)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(loss, given) for loss in (ours, theirs)))


def loose(part):
    """The loss of vectors that are learnt by themselves, and its gradients, for some rows."""
    torch.manual_seed(5)
    image, text = F.normalize(torch.randn(8, 5), dim=1), F.normalize(torch.randn(2, 8, 5), dim=2)
    given = [image[part], text[:, part].flatten(0, 1), torch.tensor(4.0)]
    given = [x.clone().requires_grad_() for x in given]
    loss = train.contrastive(lambda *batch: given, pairs(0, part))
    image_grad, text_grad, scale_grad = torch.autograd.grad(loss, given)
    return {"loss": loss.detach(), "scale": scale_grad, "rows": [image_grad, *text_grad.chunk(2)]}


def own_gradient_alone(x):
    """train.together as it is often written: what other processes made has no gradient."""
    parts = [torch.empty_like(x) for _ in range(2)]
    torch.distributed.all_gather(parts, x.detach())
    parts[torch.distributed.get_rank()] = x
    return torch.cat(parts)


def told_by(function, *arguments, **how):
    """What it says when it stops before its end."""
    with pytest.raises((TrainingError, ValueError, KeyboardInterrupt)) as caught:
        function(*arguments, **how)
    return str(caught.value)


def process(rank, folder):
    """One of two; what it finds is left in a file."""
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    for name, value in {"RANK": rank, "WORLD_SIZE": 2, "OMP_NUM_THREADS": 1}.items():
        os.environ[name] = os.environ[f"LOCAL_{name}"] = str(value)  # as torchrun does
    meet = {"init_method": f"file://{folder}/met", "timeout": datetime.timedelta(seconds=60)}
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2, **meet)
    mine, bar = slice(4 * rank, 4 * rank + 4), io.StringIO()
    with redirect_stderr(bar):
        found = {"whole": trained(), "loose": loose(mine)}
        found["tasks"] = trained(kind=BLIP)
    found["bar"] = bar.getvalue()
    told_by(trained, folder / "run", keep_every=1, watch=at(1, interrupt))
    found["resumed"] = trained(folder / "run")
    found["uneven"] = told_by(fit, Toy(), squares, points, Settings(1, 5))

    def spoilt(step, part):  # the second process alone sees it
        x, y = points(step, part)
        return x, y / 0 if (step, rank) == (1, 1) else y

    found["spoilt"] = told_by(fit, Toy(), squares, spoilt, Settings(3, 8), folder / "bad", 1)
    exact, train._per_token = train._per_token, F.cross_entropy
    found["own tokens"] = trained(kind=BLIP)
    train._per_token, train.together = exact, own_gradient_alone
    found["wrong"], found["wrong tasks"] = trained(), trained(kind=BLIP)
    torch.save(found, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two processes found that trained together on a CPU."""
    folder = tmp_path_factory.mktemp("two")
    multiprocessing.set_forkserver_preload(["pytest", "torch._dynamo", "vlmbook.train"])
    multiprocessing.start_processes(process, (folder,), 2, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def compare(one, other):
    torch.testing.assert_close(one["loss"], other["loss"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(one["grads"], other["grads"], atol=1e-4, rtol=1e-3)


def test_two_processes_do_what_one_does(two):
    one, before = trained(), state(small_clip())

    def apart(weights):  # AdamW moves a weight without a gradient, such as key.bias, by rounding
        return sum((weights[k] - one["weights"][k]).abs().sum() for k in weights)

    for found in two:
        compare(found["whole"], one)
        assert found["whole"]["grads"][2].keys() == dict(small_clip().named_parameters()).keys()
        assert apart(found["whole"]["weights"]) < 0.01 * apart(before)
    assert same(two[0]["whole"]["weights"], two[1]["whole"]["weights"])


def test_each_of_two_processes_has_the_gradients_of_its_own_rows(two):
    one, halves = loose(slice(0, 8)), [found["loose"] for found in two]
    for half in halves:
        torch.testing.assert_close(half["loss"], one["loss"])
        torch.testing.assert_close(half["scale"], one["scale"])
    rows = [torch.cat(both) for both in zip(*(half["rows"] for half in halves), strict=True)]
    of_both = [2 * grad for grad in one["rows"]]  # torchrun's processes take the mean later
    torch.testing.assert_close(rows, of_both)


def test_two_processes_that_send_no_gradients_back_do_not(two):
    one = trained()
    assert two[0]["wrong"]["loss"][0] == pytest.approx(one["loss"][0], abs=1e-5)
    with pytest.raises(AssertionError, match="not close"):
        compare(two[0]["wrong"] | {"loss": one["loss"]}, one)


def test_all_losses_of_blip_but_itm_are_in_two_processes_what_they_are_in_one(two):
    one = trained(kind=BLIP)
    assert two[0]["tasks"]["loss"] == two[1]["tasks"]["loss"]  # the one of all, in both histories
    for found in two:
        compare(found["tasks"], one)
    assert same(two[0]["tasks"]["weights"], two[1]["tasks"]["weights"])
    assert torch.equal(two[0]["tasks"]["weights"]["met"], one["weights"]["met"])  # in either half
    silent = {n for n, grad in one["grads"][2].items() if not grad.any()}
    assert silent == {"matcher.weight", "matcher.bias"}
    for wrong in ("own tokens", "wrong tasks"):
        with pytest.raises(AssertionError, match="not close"):
            compare(two[0][wrong] | {"loss": one["loss"]}, one)


def test_two_processes_go_on_stop_and_speak_as_one(two):
    for found in two:
        assert found["resumed"]["loss"] == found["whole"]["loss"]
        assert same(found["resumed"]["weights"], found["whole"]["weights"])
        assert found["uneven"] == "batch 5 can't be shared among 2 processes; try 4"
        assert "at step 1 is" in found["spoilt"] and "bad keeps step 1;" in found["spoilt"]
    assert "pairs/s" in two[0]["bar"] and two[1]["bar"] == ""


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_drawn_ahead_are_the_same(workers):
    def batch(step, part):
        return torch.arange(6)[part] + 100 * step

    draw = train.ahead(batch, 8, workers)
    for step in range(3, 8):  # a run that goes on
        assert torch.equal(draw(step, slice(2, 4)), batch(step, slice(2, 4)))


def test_batches_drawn_ahead_come_in_order():
    draw = train.ahead(lambda step, part: torch.zeros(1), 8, 1)
    draw(0, slice(0, 1))
    with pytest.raises(ValueError, match="step 5 is asked for after step 0"):
        draw(5, slice(0, 1))
