"""Scenes: relations, JSON, and complaints that name what is wrong."""

import json
import math
import random

import pytest

from vlmbook.world import splits
from vlmbook.world.scene import MARGIN, Camera, Object, Plate, Scene, to_table, to_view
from vlmbook.world.vocabulary import OPPOSITE, PRESETS, RELATIONS


def two(x: float, z: float, azimuth: float = 0.0) -> Scene:
    objects = Object("cube", "red", position=(x, z)), Object("sphere", "blue")
    return Scene(objects, camera=Camera(azimuth=azimuth))


@pytest.mark.parametrize(
    ("x", "z", "relation"),
    [(-1, 0, "left"), (1, 0, "right"), (0, 1, "front"), (0, -1, "behind")],
)
def test_relations_seen_from_the_front(x, z, relation):
    assert two(x, z).relations() == [(0, relation, 1), (1, OPPOSITE[relation], 0)]


def test_walking_around_the_table_turns_relations():
    # from the right-hand side, what lay to the left lies behind
    assert two(-1, 0, azimuth=math.pi / 2).relations()[0] == (0, "behind", 1)
    assert two(-1, 0, azimuth=math.pi).relations()[0] == (0, "right", 1)


def test_neither_relation_holds_inside_the_margin():
    assert two(MARGIN - 0.01, 0).relations() == []
    assert len(two(MARGIN + 0.01, 0).relations()) == 2


def test_view_and_table_coordinates_are_inverse():
    rng = random.Random(0)
    for _ in range(50):
        point, azimuth = (rng.uniform(-2, 2), rng.uniform(-2, 2)), rng.uniform(-4, 4)
        assert to_table(*to_view(point, azimuth), azimuth) == pytest.approx(point)


def test_relations_of_every_sampled_scene_are_consistent():
    for scene in splits.sample(200, "full"):
        holds = set(scene.relations())
        for a, relation, b in holds:
            assert (b, OPPOSITE[relation], a) in holds
            assert (a, OPPOSITE[relation], b) not in holds
        assert len(holds) > 0 or len(scene) < 3


@pytest.mark.parametrize("split", ["train", "plates", "render_ood"])
@pytest.mark.parametrize("preset", PRESETS)
def test_json_gives_the_same_scene_back(preset, split):
    for scene in splits.sample(20, preset, split):
        assert Scene.from_json(scene.to_json()) == scene
        assert Scene.from_dict(scene.to_dict()) == scene


def test_two_scenes_do_not_share_their_json():
    first, second = splits.sample(2)
    assert first.to_json() != second.to_json()


BAD = [
    (
        lambda d: d["objects"][0].update(shape="ball"),
        "scene.objects[0]: shape 'ball'",
        "sphere, cube",
    ),
    (
        lambda d: d["objects"][0].update(color=3),
        "scene.objects[0].color should be a text, not 3",
        "",
    ),
    (
        lambda d: d["objects"][0].update(position=[1]),
        "scene.objects[0].position should be two numbers",
        "",
    ),
    (
        lambda d: d["objects"][0].update(position=[1, "x"]),
        "scene.objects[0].position[1]",
        "finite number",
    ),
    (
        lambda d: d["objects"][0].update(weight=3),
        "scene.objects[0] has a field 'weight'",
        "rotation",
    ),
    (lambda d: d["objects"][0].pop("shape"), "scene.objects[0] lacks its field 'shape'", ""),
    (lambda d: d.pop("objects"), "scene lacks its field 'objects'", ""),
    (lambda d: d.update(objects={}), "scene.objects should be a list", ""),
    (lambda d: d.update(light=[]), "scene.light should be an object with fields", ""),
    (lambda d: d["light"].update(azimuth=float("nan")), "scene.light.azimuth", "finite"),
    (lambda d: d.update(floor="lava"), "scene: floor 'lava' does not exist", "linen"),
    (lambda d: d.update(index=1.5), "scene.index should be a whole number", ""),
    (lambda d: d.update(preset="huge"), "preset 'huge' does not exist", "tiny, standard, full"),
    (
        lambda d: d.update(plates=[{"text": "a word too long"}]),
        "scene.plates[0]: plate text",
        "1 to 8",
    ),
    (lambda d: d.update(edits=[1]), "scene.edits[0] should be a text", ""),
]


@pytest.mark.parametrize(("spoil", "field", "remedy"), BAD)
def test_json_that_is_no_scene_is_refused_by_field(spoil, field, remedy):
    data = splits.sample(1, num_objects=2)[0].to_dict()
    spoil(data)
    with pytest.raises(ValueError) as error:
        Scene.from_dict(data)
    assert field in str(error.value)
    assert remedy in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", json.dumps("scene")])
def test_text_that_is_no_scene_is_refused(text):
    with pytest.raises(ValueError, match=r"not JSON|should be an object"):
        Scene.from_json(text)


def test_unknown_words_list_the_known_ones():
    with pytest.raises(
        ValueError, match="material 'glass' does not exist; choose from rubber, metal, striped"
    ):
        Object("cube", "red", "glass")
    with pytest.raises(
        ValueError, match="relation 'above' does not exist; choose from left, right"
    ):
        two(1, 1).holds(0, "above", 1)
    with pytest.raises(ValueError, match="attribute 'weight'"):
        two(1, 1).find(weight="1")
    with pytest.raises(ValueError, match="plate text ''"):
        Plate("")


def test_find():
    scene = two(1, 1)
    assert scene.find(color="red") == [0]
    assert scene.find(shape="sphere", color="blue") == [1]
    assert scene.find(shape="sphere", color="red") == []
    assert len(RELATIONS) == len(OPPOSITE)
