"""Which scenes there are: presets, splits, and the draw of a scene from its place in a split.

Training, validation and test scenes of two or more objects share no description: the multiset of
their (color, shape) pairs decides which of the three a scene belongs to. The other splits change
one thing each, and say here which side of that fence they stand on.

Book: appendix/world.md.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from vlmbook.world.placement import PlacementError, place, place_plate
from vlmbook.world.scene import Camera, Light, Object, Scene
from vlmbook.world.vocabulary import FLOORS, LOUD_FLOORS, PRESETS, Preset, one_of

NUM_TRIES = 2000  # draws of a scene that fits its split, before giving up

# CoGenT (Johnson et al. 2017): cubes and cylinders trade colours between a and b; other shapes have
# all.
COGENT = {
    "cube": ("gray", "blue", "brown", "yellow", "orange"),
    "cylinder": ("red", "green", "purple", "cyan", "pink"),
}
# What relation_seen never shows and every scene of relation_holdout does.
HELD_OUT_RELATIONS = (("cube", "left", "sphere"), ("cylinder", "front", "cube"))
COOCCURRENCE = 0.8  # P(a cone is there | a sphere is there)
PLATE_WORDS = (
    "red",
    "green",
    "blue",
    "yellow",
    "purple",
    "cyan",
    "brown",
    "gray",
    "orange",
    "pink",
) + (
    "sphere",
    "cube",
    "cone",
    "torus",
    "egg",
)
PLATE_HEIGHTS = (0.58, 0.72)  # table units


@dataclass(frozen=True)
class Split:
    """bucket: which descriptions it may use; num_objects: its range unless another is asked for."""

    bucket: str
    num_objects: tuple[int, int] = (1, 5)
    plate_rate: float = 0.0
    about: str = ""


SPLITS = {
    "train": Split("train", about="to learn from"),
    "val": Split("val", about="to choose by; no description of train"),
    "test": Split("test", about="to report; no description of train or val"),
    "cogent_a": Split("train", (2, 5), about="cubes and cylinders have separate sets of colors"),
    "cogent_b": Split("test", (2, 5), about="the same, with the two sets traded"),
    "count_ood": Split("test", (6, 8), about="more objects than any other split"),
    "relation_seen": Split("train", (2, 5), about="some relations of two shapes never occur"),
    "relation_holdout": Split("test", (2, 5), about="each scene has one of those relations"),
    "template_holdout": Split(
        "test", about="captioned with templates that the other splits never use"
    ),
    "render_ood": Split(
        "test", about="other lights, loud or checkered tables, flat shading, turned hues"
    ),
    "plates": Split(
        "test", (1, 3), 1.0, about="each scene has a text plate that names a color or a shape in it"
    ),
    "cooccurrence": Split(
        "train", (2, 5), about="where there is a sphere there is a cone, eight times in ten"
    ),
}


def sample(
    num: int,
    preset: str = "standard",
    split: str = "train",
    seed: int = 0,
    num_objects: int | tuple[int, int] | None = None,
    plate_rate: float | None = None,
    start: int = 0,
) -> list[Scene]:
    """Scenes number start to start + num - 1 of a split; the same arguments give the same scenes.

    num_objects is a count or a range (low, high); plate_rate the share of scenes with a text plate.
    Both are the split's own when left out. Raises ValueError for a preset or split that does not
    exist, PlacementError for objects that do not fit.
    """
    if num < 0 or start < 0:
        raise ValueError(f"num {num} and start {start} must not be negative")
    return list(islice(stream(preset, split, seed, num_objects, plate_rate, start), num))


def stream(
    preset: str = "standard",
    split: str = "train",
    seed: int = 0,
    num_objects: int | tuple[int, int] | None = None,
    plate_rate: float | None = None,
    start: int = 0,
    step: int = 1,
) -> Iterator[Scene]:
    """The scenes of a split without end, from number start on, every step-th of them."""
    world = PRESETS[one_of(preset, PRESETS, "preset")]
    rule = SPLITS[one_of(split, SPLITS, "split")]
    if split == "cooccurrence" and not {"sphere", "cone"} <= set(world.shapes):
        raise ValueError(
            f"split 'cooccurrence' needs spheres and cones, which preset {preset!r} lacks;"
            " use 'standard' or 'full'"
        )
    counts = _range(rule.num_objects if num_objects is None else num_objects)
    rate = rule.plate_rate if plate_rate is None else plate_rate
    if not 0 <= rate <= 1:
        raise ValueError(f"plate_rate {rate} is not a share; choose from 0 to 1")

    def draw() -> Iterator[Scene]:
        index = start
        while True:
            yield _draw(world, split, seed, index, counts, rate)
            index += step

    return draw()


def _range(num_objects: int | tuple[int, int]) -> tuple[int, int]:
    low, high = (num_objects, num_objects) if isinstance(num_objects, int) else num_objects
    if not 0 <= low <= high:
        raise ValueError(f"num_objects {num_objects} is not a count or a range (low, high)")
    return low, high


def _draw(
    world: Preset, split: str, seed: int, index: int, counts: tuple[int, int], plate_rate: float
) -> Scene:
    rng = random.Random(f"{world.name}/{split}/{seed}/{index}")
    num = None
    for _ in range(NUM_TRIES):
        drawn = rng.randint(*counts)
        # The count of the first try is kept, since val and test refuse nine in ten scenes of two
        # objects and none of one: with a new count for each try, a range would be nearly all single
        # objects. Train refuses few, and draws anew, as it did when the tokenizer was made of it.
        if num is None or SPLITS[split].bucket == "train":
            num = drawn
        objects = _kinds(world, split, num, rng)
        if not belongs(objects, SPLITS[split].bucket):
            continue
        camera = _camera(rng)
        objects = place(objects, camera, rng)
        scene = Scene(
            objects,
            _light(rng),
            camera,
            rng.choice(tuple(FLOORS)),
            (),
            "lit",
            0.0,
            world.name,
            split,
            seed,
            index,
        )
        if not _relations_fit(scene):
            continue
        if split == "render_ood":
            scene = _strange(scene, rng)
        if rng.random() < plate_rate:
            scene = _with_plate(scene, rng)
            if scene is None:
                continue
        return scene
    raise PlacementError(
        f"no scene of preset {world.name!r} with {counts[0]} to {counts[1]} objects fits"
        f" split {split!r} in {NUM_TRIES} tries; allow other counts"
    )


def description(objects: Sequence[Object]) -> tuple[tuple[str, str], ...]:
    """What a scene shows, whatever the order: its sorted (color, shape) pairs."""
    return tuple(sorted((o.color, o.shape) for o in objects))


def belongs(objects: Sequence[Object], bucket: str) -> bool:
    """Whether a description may occur in "train", "val" or "test"; fewer than two objects may
    everywhere.
    """
    if len(objects) < 2:
        return True
    tenth = zlib.crc32(repr(description(objects)).encode()) % 10
    return bucket == ("val" if tenth == 8 else "test" if tenth == 9 else "train")


def _kinds(world: Preset, split: str, num: int, rng: random.Random) -> list[Object]:
    shapes = [rng.choice(world.shapes) for _ in range(num)]
    if split == "cooccurrence":
        shapes = _cooccurring(shapes, world, rng)
    return [
        Object(
            shape,
            rng.choice(_colors(world, split, shape)),
            rng.choice(world.materials),
            rng.choice(world.sizes),
            rotation=round(rng.uniform(0, 6.2832), 4),
        )
        for shape in shapes
    ]


def _colors(world: Preset, split: str, shape: str) -> tuple[str, ...]:
    if split not in ("cogent_a", "cogent_b") or shape not in COGENT:
        return world.colors
    other = {"cube": "cylinder", "cylinder": "cube"}[shape]
    allowed = COGENT[shape if split == "cogent_a" else other]
    return tuple(c for c in world.colors if c in allowed)


def _cooccurring(shapes: list[str], world: Preset, rng: random.Random) -> list[str]:
    """Where there is a sphere, make a cone be there in COOCCURRENCE of the scenes and not in the
    others.
    """
    if "sphere" not in shapes or len(shapes) < 2:
        return shapes
    rest = [s for s in world.shapes if s not in ("sphere", "cone")]
    shapes = [rng.choice(rest) if s == "cone" else s for s in shapes]
    if rng.random() < COOCCURRENCE:
        first = shapes.index("sphere")
        shapes[rng.choice([i for i in range(len(shapes)) if i != first])] = "cone"
    return shapes


def _relations_fit(scene: Scene) -> bool:
    if scene.split not in ("relation_seen", "relation_holdout"):
        return True
    shape = [o.shape for o in scene.objects]
    held_out = any((shape[a], r, shape[b]) in HELD_OUT_RELATIONS for a, r, b in scene.relations())
    return held_out == (scene.split == "relation_holdout")


def _camera(rng: random.Random) -> Camera:
    return Camera(_near(rng, 0.0, 0.25), _near(rng, 0.66, 0.05), _near(rng, 13.0, 0.35))


def _light(rng: random.Random) -> Light:
    return Light(_near(rng, 0.0, 1.2), _near(rng, 0.92, 0.16), _near(rng, 0.42, 0.05))


def _near(rng: random.Random, middle: float, spread: float) -> float:
    return round(rng.uniform(middle - spread, middle + spread), 4)


def _strange(scene: Scene, rng: random.Random) -> Scene:
    """The same objects under a look that training never has."""
    return replace(
        scene,
        light=Light(
            rng.choice((-1, 1)) * round(rng.uniform(1.9, 2.8), 4),
            _near(rng, 0.62, 0.08),
            _near(rng, 0.28, 0.04),
        ),
        floor=rng.choice(tuple(LOUD_FLOORS)),
        shading="flat" if rng.random() < 0.25 else "lit",
        hue=_near(rng, 0.0, 10.0),
    )


def _with_plate(scene: Scene, rng: random.Random) -> Scene | None:
    """The scene with a plate that tells the truth about one of its objects, or None where none
    fits.
    """
    words = sorted({w for o in scene.objects for w in (o.color, o.shape)} & set(PLATE_WORDS))
    if not words:
        return None
    try:
        height = round(rng.uniform(*PLATE_HEIGHTS), 4)
        return replace(
            scene,
            plates=(place_plate(rng.choice(words), height, scene.objects, scene.camera, rng),),
        )
    except PlacementError:
        return None
