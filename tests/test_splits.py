"""Splits: disjoint, repeatable, and each with the one thing that it is for."""

from collections import Counter

import pytest

from vlmbook.world import splits
from vlmbook.world.placement import HALF_NEAR, HALF_RIGHT, PlacementError
from vlmbook.world.vocabulary import FLOORS, LOUD_FLOORS, PRESETS


def described(split, preset="standard", num=1500, **how):
    return {
        splits.description(s.objects)
        for s in splits.sample(num, preset, split, **how)
        if len(s) > 1
    }


@pytest.mark.parametrize("preset", PRESETS)
def test_train_val_and_test_share_no_description(preset):
    train, val, test = (described(s, preset, num_objects=(2, 3)) for s in ("train", "val", "test"))
    assert not train & val and not train & test and not val & test
    assert min(len(train), len(val), len(test)) > 20
    # and this can fail: other seeds of one split do share descriptions
    assert train & described("train", preset, seed=1, num_objects=(2, 3))


def test_every_other_split_stands_on_one_side():
    train = described("train", num_objects=(2, 3), num=4000)
    for name, rule in splits.SPLITS.items():
        if rule.bucket == "test":
            assert not train & described(name, num=150)


@pytest.mark.parametrize("split", splits.SPLITS)
def test_the_same_place_in_a_split_is_the_same_scene(split):
    first = splits.sample(30, "full", split, seed=7)
    assert first == splits.sample(30, "full", split, seed=7)
    assert first[10:] == splits.sample(20, "full", split, seed=7, start=10)
    assert first != splits.sample(30, "full", split, seed=8)
    assert [s.index for s in first] == list(range(30))


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_use_their_words_and_all_of_them(preset):
    world = PRESETS[preset]
    objects = [o for s in splits.sample(800, preset) for o in s.objects]
    for attribute in ("shape", "color", "material", "size"):
        assert {getattr(o, attribute) for o in objects} == set(world.values(attribute))
    assert world.num_kinds == {"tiny": 12, "standard": 48, "full": 480}[preset]


def test_cogent_trades_the_colours():
    for preset in PRESETS:
        seen = {}
        for split in ("cogent_a", "cogent_b"):
            objects = [o for s in splits.sample(500, preset, split) for o in s.objects]
            seen[split] = {
                shape: {o.color for o in objects if o.shape == shape}
                for shape in ("cube", "cylinder", "sphere")
            }
        a, b = seen["cogent_a"], seen["cogent_b"]
        assert a["cube"] == b["cylinder"] and a["cylinder"] == b["cube"]
        assert not a["cube"] & a["cylinder"]
        assert a["sphere"] == set(PRESETS[preset].colors)


def test_counts():
    assert Counter(len(s) for s in splits.sample(300, split="count_ood")).keys() == {6, 7, 8}
    assert Counter(len(s) for s in splits.sample(400)).keys() == {1, 2, 3, 4, 5}
    assert {len(s) for s in splits.sample(20, num_objects=4)} == {4}


@pytest.mark.parametrize("preset", ["standard", "full"])
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_counts_of_a_range_are_equally_frequent(preset, split):
    counts = Counter(len(s) for s in splits.sample(600, preset, split, num_objects=(1, 3)))
    assert all(150 < counts[num] < 250 for num in (1, 2, 3)), counts


def test_held_out_relations():
    def has(scene):
        shape = [o.shape for o in scene.objects]
        return any(
            (shape[a], r, shape[b]) in splits.HELD_OUT_RELATIONS for a, r, b in scene.relations()
        )

    assert not any(map(has, splits.sample(300, split="relation_seen")))
    assert all(map(has, splits.sample(100, split="relation_holdout")))
    assert any(map(has, splits.sample(300)))


def test_planted_cooccurrence():
    def rate(split):
        scenes = [
            {o.shape for o in s.objects}
            for s in splits.sample(2500, split=split, num_objects=(2, 5))
        ]
        return sum("cone" in s for s in scenes if "sphere" in s) / sum(
            "sphere" in s for s in scenes
        )

    assert rate("cooccurrence") == pytest.approx(splits.COOCCURRENCE, abs=0.04)
    assert rate("train") < 0.55


def test_render_ood_looks_as_training_never_does():
    train, strange = splits.sample(200), splits.sample(200, split="render_ood")
    assert {s.floor for s in train} == set(FLOORS) and {s.floor for s in strange} == set(
        LOUD_FLOORS
    )
    assert {s.shading for s in train} == {"lit"} and {s.shading for s in strange} == {"lit", "flat"}
    assert max(abs(s.light.azimuth) for s in train) < min(abs(s.light.azimuth) for s in strange)


def test_plates_tell_the_truth():
    for scene in splits.sample(100, "full", "plates"):
        (plate,) = scene.plates
        assert any(plate.text in (o.color, o.shape) for o in scene.objects)
    assert not any(s.plates for s in splits.sample(100))
    assert (
        20
        < sum(bool(s.plates) for s in splits.sample(100, plate_rate=0.4, num_objects=(1, 3)))
        < 60
    )


def test_positions_are_even_over_the_picture():
    places = [
        s.view_position(n) for s in splits.sample(2000, num_objects=(1, 3)) for n in range(len(s))
    ]
    for axis, half in ((0, HALF_RIGHT), (1, HALF_NEAR)):
        quarters = Counter(min(3, int((p[axis] / half + 1) * 2)) for p in places)
        assert all(0.2 < quarters[q] / len(places) < 0.3 for q in range(4))
        assert max(abs(p[axis]) for p in places) <= half + 1e-9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "huge"}, "preset 'huge' does not exist; choose from tiny, standard, full"),
        ({"split": "dev"}, "split 'dev' does not exist; choose from train, val, test"),
        ({"num_objects": (3, 2)}, r"num_objects \(3, 2\)"),
        ({"num": -1}, "num -1"),
        ({"plate_rate": 2.0}, "plate_rate 2.0 is not a share"),
        ({"split": "cooccurrence", "preset": "tiny"}, "needs spheres and cones"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        splits.sample(**{"num": 1, **arguments})


def test_objects_that_do_not_fit_are_refused_not_dropped():
    with pytest.raises(PlacementError, match="12 objects could not be placed"):
        splits.sample(1, num_objects=12)
    with pytest.raises(ValueError, match="at most 12 fit|could not be placed"):
        splits.sample(1, num_objects=40)
