"""Metrics of captions, against figures of the COCO evaluation and against the world's truth."""

import random

import numpy as np
import pytest

from vlmbook import evaluate, world

# Four captions with three references each, and what pycocoevalcap 1.2 gives for them.
CAPTIONS = [
    "a red cube and a blue ball",
    "two cones",
    "a large red torus on a table",
    "cat cat sat",
]
REFERENCES = [
    ["a red cube and a blue sphere", "a blue sphere near a red cube", "two things"],
    ["two green cones", "two cones", "some cones on a wooden table"],
    ["a big red torus", "a large torus on a table", "there is a large red torus on a table"],
    ["a green cat sits", "the cat", "a cat is on the mat"],
]
PUBLISHED = {
    "bleu": [0.84210526311357, 0.82078268161916, 0.81991480977613, 0.83335215240271],
    "rouge_l": [0.85714285714286, 1.0, 1.0, 0.41496598639456],
    "cider_d": [3.64787581699346, 2.74579219141192, 5.14640200544485, 0.68615051803506],
}


def test_figures_equal_those_of_the_coco_evaluation():
    assert evaluate.bleu(CAPTIONS, REFERENCES) == pytest.approx(PUBLISHED["bleu"], abs=1e-12)
    for name in ("rouge_l", "cider_d"):
        found = getattr(evaluate, name)(CAPTIONS, REFERENCES)
        assert found == pytest.approx(PUBLISHED[name], abs=1e-12)


def test_it_agrees_with_the_coco_evaluation_where_that_is_installed():
    bleu = pytest.importorskip("pycocoevalcap.bleu.bleu")
    cider = pytest.importorskip("pycocoevalcap.cider.cider")
    rouge = pytest.importorskip("pycocoevalcap.rouge.rouge")
    scenes = world.sample(40, "full", "test", num_objects=(1, 3))
    for language, form in (("en", evaluate.words), ("ko", evaluate.syllables)):
        refs = [
            [form(world.caption(s, language, rng=random.Random(f"{k}{s.index}"))) for k in range(5)]
            for s in scenes
        ]
        made = [form(world.caption(s, language, "partial")) for s in scenes[1:] + scenes[:1]]
        theirs = dict(enumerate(refs)), {i: [text] for i, text in enumerate(made)}
        assert evaluate.bleu(made, refs) == pytest.approx(
            bleu.Bleu(4).compute_score(*theirs, verbose=0)[0], abs=1e-12
        )
        for ours, other in ((evaluate.cider_d, cider.Cider()), (evaluate.rouge_l, rouge.Rouge())):
            assert ours(made, refs) == pytest.approx(other.compute_score(*theirs)[1], abs=1e-12)


def test_cider_rewards_length_and_rarity():
    perfect = ["a red cube", "red cube", "some blue balls in a row", "a green cone stands"]
    scores = evaluate.cider_d(perfect, [[text] for text in perfect])
    assert scores == pytest.approx([7.5, 5.0, 10.0, 10.0])  # no 4-grams, no 3-grams
    assert evaluate.cider_d(["a red cube is here"], [["a red cube is here"]]) == [0.0]
    wrong = [f"a picture of a {color} cube" for color in ("red", "blue", "green")]
    right = [[text] for text in wrong[1:] + wrong[:1]]
    assert evaluate.cider_d(wrong, right) == pytest.approx(np.zeros(3))
    assert evaluate.bleu(wrong, right)[0] == pytest.approx(5 / 6)


def test_bleu_by_hand():
    one, two, *_ = evaluate.bleu(["a b c d"], [["a b x d"]])
    assert one == pytest.approx(3 / 4) and two == pytest.approx((3 / 4 * 1 / 3) ** 0.5)
    assert evaluate.bleu(["a a a a"], [["a b c d"]])[0] == pytest.approx(1 / 4)
    short = evaluate.bleu(["a b"], [["a b c d"]])[0]
    assert short == pytest.approx(np.exp(1 - 4 / 2))


def test_rouge_allows_gaps_and_no_other_order():
    assert evaluate.rouge_l(["a x b y c"], [["a b c"]]) > evaluate.rouge_l(["c b a"], [["a b c"]])
    same, none = evaluate.rouge_l(["a b", "z"], [["a b"], ["a b"]])
    assert same == pytest.approx(1) and none == 0


def test_texts_in_common_form():
    assert evaluate.words("There is a Red cube, here.") == "there is a red cube here"
    assert evaluate.syllables("빨간 공이 있습니다.") == "빨 간 공 이 있 습 니 다"


@pytest.mark.parametrize("language", ["en", "ko"])
def test_full_captions_tell_all_and_partial_ones_nothing_wrong(language):
    scenes = world.sample(60, "full", "test", num_objects=(1, 3))
    texts = [world.caption(s, language, rng=random.Random(s.index)) for s in scenes]
    found = evaluate.scene_graph(texts, scenes, language)
    assert (found.precision == 1).all() and (found.recall == 1).all() and (found.f1 == 1).all()
    partial = [world.caption(s, language, "partial", random.Random(s.index)) for s in scenes]
    found = evaluate.scene_graph(partial, scenes, language)
    said = found.recall > 0  # some say no more than that there are objects
    assert (found.precision[said] == 1).all() and said.mean() > 0.5
    assert found.recall.mean() < 0.9


def test_a_scene_graph_by_hand():
    scene = next(
        s
        for s in world.sample(50, "standard", "test", num_objects=2)
        if len({o.shape for o in s.objects}) == len({o.color for o in s.objects}) == 2
    )
    (a, b), (c, d) = ((o.color, o.shape) for o in scene.objects)

    def score(text):
        found = evaluate.scene_graph([text], [scene])
        return round(float(found.precision[0]), 3), round(float(found.recall[0]), 3)

    other = next(s for s in world.PRESETS["standard"].shapes if s not in (b, d))
    assert score(f"A {a} {b} and a {c} {d}.") == (1, 1)
    assert score(f"A {c} {d}.") == (1, 0.5)
    assert score(f"A {a} {d} and a {c} {b}.") == (0.5, 0.5)  # the words alone don't count
    assert score(f"A {a} {b}, a {c} {d} and a {a} {other}.") == (round(4 / 6, 3), 1)
    assert score("Hm.") == (0, 0)
    assert evaluate.scene_graph(["Hm."], [scene]).f1 == [0]


def test_twins_with_exchanged_colors_are_not_told_apart_by_words_but_by_facts():
    scenes = [s for s in world.sample(40, "standard", "test", num_objects=2) if _twin(s)]
    texts = [world.caption(s, relations=False) for s in scenes]
    twins = [world.caption(_twin(s), relations=False) for s in scenes]
    assert (evaluate.scene_graph(twins, scenes).f1 < 1).all()
    split = [[evaluate.words(t)] for t in texts]
    assert evaluate.bleu([evaluate.words(t) for t in twins], split)[0] == pytest.approx(1)


def _twin(scene):
    try:
        return world.swap_attributes(scene)
    except world.TwinError:
        return None


def test_inventions():
    scene = next(s for s in world.sample(20, "full", num_objects=2) if _shapes(s) == 2)
    there = [o.shape for o in scene.objects]
    absent = next(s for s in world.SHAPES if s not in there)
    true = world.caption(scene, relations=False)
    assert evaluate.chair([true], [scene]) == (0, 0, 1)
    texts = [f"A red {there[0]} and a blue {absent}.", true, "Hm."]  # a wrong color is no invention
    assert evaluate.chair(texts, [scene] * 3) == (1 / 4, 1 / 3, 3 / 6)


def _shapes(scene):
    return len({o.shape for o in scene.objects})


def test_bad_input():
    with pytest.raises(ValueError, match="1 sets of references don't fit 2 captions"):
        evaluate.bleu(["a", "b"], [["a"]])
    with pytest.raises(ValueError, match=r"references\[0\] is 'a'; pass a list"):
        evaluate.cider_d(["a"], ["a"])
    with pytest.raises(ValueError, match="no captions"):
        evaluate.rouge_l([], [])
    with pytest.raises(ValueError, match="1 captions don't fit 0 scenes"):
        evaluate.scene_graph(["a"], [])
