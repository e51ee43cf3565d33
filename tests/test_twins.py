"""Twins differ in exactly what they say, and vacuous ones are refused."""

import random
from collections import Counter
from dataclasses import replace

import pytest

from vlmbook.world import splits, twins
from vlmbook.world.placement import touch
from vlmbook.world.render import render
from vlmbook.world.scene import Object, Plate, Scene
from vlmbook.world.vocabulary import OPPOSITE, PRESETS


@pytest.fixture(scope="module", params=PRESETS)
def scenes(request):
    return splits.sample(120, request.param, "train", seed=11, num_objects=(2, 5))


def made(make, scenes):
    """(scene, twin) for the scenes that have one; most must."""
    pairs = []
    for scene in scenes:
        try:
            pairs.append((scene, make(scene)))
        except twins.TwinError:
            continue
    assert len(pairs) > 0.5 * len(scenes)
    for scene, twin in pairs:
        frame = (
            scene.light,
            scene.camera,
            scene.floor,
            scene.plates,
            scene.preset,
            scene.split,
            scene.index,
        )
        assert frame == (
            twin.light,
            twin.camera,
            twin.floor,
            twin.plates,
            twin.preset,
            twin.split,
            twin.index,
        )
        assert len(twin.edits) == len(scene.edits) + 1
        assert not any(touch(a, b) for i, a in enumerate(twin.objects) for b in twin.objects[:i])
    return pairs


def kinds(scene):
    return Counter(o.kind for o in scene.objects)


def test_swapped_colours_keep_the_words_and_change_the_pairs(scenes):
    for scene, twin in made(twins.swap_attributes, scenes):
        assert kinds(scene) != kinds(twin)
        assert Counter(o.color for o in scene.objects) == Counter(o.color for o in twin.objects)
        assert [replace(o, color="red") for o in scene.objects] == [
            replace(o, color="red") for o in twin.objects
        ]
        assert sum(a != b for a, b in zip(scene.objects, twin.objects, strict=True)) == 2


def test_swapped_places_reverse_the_relations(scenes):
    for scene, twin in made(twins.swap_relation, scenes):
        assert kinds(scene) == kinds(twin)
        a, b = (
            i for i, (x, y) in enumerate(zip(scene.objects, twin.objects, strict=True)) if x != y
        )
        between = [(x, r, y) for x, r, y in scene.relations() if {x, y} == {a, b}]
        assert between
        assert all(twin.holds(x, OPPOSITE[r], y) for x, r, y in between)


def test_a_recoloured_object_is_the_only_change(scenes):
    for scene, twin in made(twins.recolour, scenes):
        (i,) = (
            i for i, (x, y) in enumerate(zip(scene.objects, twin.objects, strict=True)) if x != y
        )
        assert replace(twin.objects[i], color=scene.objects[i].color) == scene.objects[i]
        assert twin.objects[i].color in PRESETS[scene.preset].colors


def test_add_and_remove(scenes):
    for scene, twin in made(twins.add, scenes):
        assert twin.objects[:-1] == scene.objects
    for scene, twin in made(twins.remove, scenes):
        assert twin.objects == scene.objects[1:]


def test_added_objects_are_seen_and_hide_nothing(scenes):
    pairs = made(twins.add, scenes[:60])
    view = render([t for _, t in pairs], 64)
    for b, (_, twin) in enumerate(pairs):
        assert all(view.visible[b, n].sum() >= 24 for n in range(len(twin)))


def test_counts_change_by_one(scenes):
    for scene, twin in made(twins.change_count, scenes):
        ((kind, more),) = (kinds(twin) - kinds(scene)).items()
        assert more == 1 and kind in kinds(scene)
    doubled = [t for _, t in made(twins.change_count, scenes[:40])]
    for scene, twin in made(lambda s: twins.change_count(s, by=-1), doubled):
        ((kind, less),) = (kinds(scene) - kinds(twin)).items()
        assert less == 1 and kind in kinds(twin)


def test_an_rng_draws_other_twins(scenes):
    drawn = {twins.recolour(scenes[0], rng=random.Random(k)).to_json() for k in range(10)}
    assert len(drawn) > 3
    assert twins.recolour(scenes[0]) == twins.recolour(scenes[0])


def test_plates_are_relabelled():
    scene = splits.sample(1, split="plates")[0]
    word = "egg" if scene.plates[0].text != "egg" else "cube"
    twin = twins.relabel_plate(scene, word)
    assert twin.objects == scene.objects and twin.plates[0] == replace(scene.plates[0], text=word)
    assert len(twins.add_plate(splits.sample(1, num_objects=1)[0], "blue").plates) == 1


ALIKE = Scene((Object("cube", "red", position=(-1, 0)), Object("cube", "red", position=(1, 0))))
SHAPE_TWINS = Scene(
    (Object("cube", "red", position=(-1, 0)), Object("cube", "blue", position=(1, 0)))
)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: twins.swap_attributes(ALIKE), "no two objects whose colors can be swapped"),
        (lambda: twins.swap_attributes(SHAPE_TWINS), "no two objects whose colors can be swapped"),
        (lambda: twins.swap_relation(ALIKE), "no two different objects"),
        (lambda: twins.recolour(ALIKE, 0, "red"), "no object that can get another color"),
        (lambda: twins.remove(Scene(())), "nothing to remove"),
        (lambda: twins.remove(ALIKE, 5), "none is number 5; choose from 0 to 1"),
        (lambda: twins.change_count(SHAPE_TWINS, by=-1), "two of a kind"),
        (lambda: twins.relabel_plate(ALIKE, "egg"), "0 text plates"),
        (
            lambda: twins.relabel_plate(Scene((), plates=(Plate("egg"),)), "egg"),
            "already says 'egg'",
        ),
        (
            lambda: twins.swap_attributes(ALIKE, attribute="weight"),
            "attribute 'weight' does not exist",
        ),
        (lambda: twins.recolour(ALIKE, 0, "mauve"), "color 'mauve' does not exist"),
        (lambda: twins.change_count(ALIKE, by=3), "by 3 is not 1 or -1"),
    ],
)
def test_vacuous_and_impossible_twins_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_full_table_takes_no_more():
    scene = splits.sample(1, num_objects=8)[0]
    with pytest.raises(twins.TwinError):
        for _ in range(6):
            scene = twins.add(scene)
