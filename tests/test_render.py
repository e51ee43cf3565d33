"""Pictures: they agree with the scene, and they are the same however they are made."""

import math

import numpy as np
import pytest
import torch
from skimage.color import deltaE_cie76, rgb2lab

from vlmbook.world import layout, plates, shapes, splits
from vlmbook.world.placement import MIN_PIXELS
from vlmbook.world.render import render
from vlmbook.world.scene import Camera, Light, Object, Plate, Scene
from vlmbook.world.twins import recolour
from vlmbook.world.vocabulary import COLORS, MATERIALS, SHAPES, SIZES


@pytest.fixture(scope="module")
def full():
    scenes = splits.sample(300, "full", "train")
    return scenes, render(scenes, 64)


def mean_colors(scenes, view):
    """(K, 3) Lab mean colour under each visible mask, with the object of each."""
    found = [
        (view.pixels[b][:, view.visible[b, n]].mean(1), o)
        for b, s in enumerate(scenes)
        for n, o in enumerate(s.objects)
    ]
    return rgb2lab(torch.stack([c for c, _ in found]).double().numpy()), [o for _, o in found]


@pytest.fixture(scope="module")
def references():
    """The mean Lab colour of each (material, color), from scenes that are not tested."""
    lab, objects = mean_colors(
        *(lambda s: (s, render(s, 64)))(splits.sample(1500, "full", "train", seed=9))
    )
    return {
        (m, c): np.mean(
            [v for v, o in zip(lab, objects, strict=True) if (o.material, o.color) == (m, c)],
            axis=0,
        )
        for m in MATERIALS
        for c in COLORS
    }


def test_the_mean_colour_under_a_mask_names_the_object(full, references):
    lab, objects = mean_colors(*full)
    right = 0
    for value, thing in zip(lab, objects, strict=True):
        nearest = min(COLORS, key=lambda c: deltaE_cie76(value, references[thing.material, c]))
        right += nearest == thing.color
    assert right / len(objects) > 0.98


def test_a_wrong_mask_does_not_name_the_object(full, references):
    scenes, view = full
    shifted = view.visible.roll(32, dims=-1)
    right = total = 0
    for b, scene in enumerate(scenes):
        for n, thing in enumerate(scene.objects):
            value = rgb2lab(view.pixels[b][:, shifted[b, n]].mean(1).double().numpy())
            right += (
                min(COLORS, key=lambda c: deltaE_cie76(value, references[thing.material, c]))
                == thing.color
            )
            total += 1
    assert right / total < 0.5


@pytest.mark.parametrize("material", MATERIALS)
def test_colours_stay_apart_after_shading(references, material):
    names = list(COLORS)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            assert deltaE_cie76(references[material, a], references[material, b]) >= 20, (a, b)


def test_masks_fit_together(full):
    scenes, view = full
    assert (view.visible & ~view.whole).sum() == 0
    assert view.visible.sum(1).max() == 1
    for b, scene in enumerate(scenes):
        assert not view.whole[b, len(scene) :].any()
        # an object is hidden only by what is nearer: where masks overlap, one of the two is seen
        covered = view.whole[b].any(0)
        assert torch.equal(covered, view.visible[b].any(0))


@pytest.mark.parametrize(
    ("preset", "split"), [("full", "train"), ("full", "count_ood"), ("standard", "cooccurrence")]
)
def test_every_object_is_seen_well_enough(preset, split):
    scenes = splits.sample(300, preset, split, seed=5)
    seen = render(scenes, 64).visible.sum((2, 3))
    fewest = min(int(seen[b, n]) for b, s in enumerate(scenes) for n in range(len(s)))
    assert fewest >= MIN_PIXELS


def test_nothing_is_cut_off_by_the_edge(full):
    whole = full[1].whole
    edge = torch.cat([whole[..., 0, :], whole[..., -1, :], whole[..., :, 0], whole[..., :, -1]], -1)
    assert not edge.any()


def test_relations_agree_with_the_pixels(full):
    scenes, view = full
    columns, rows = torch.arange(64.0), torch.arange(64.0)
    checked = 0
    for b, scene in enumerate(scenes):
        x = [
            float((view.whole[b, n] * columns).sum() / view.whole[b, n].sum())
            for n in range(len(scene))
        ]
        foot = [float(rows[view.whole[b, n].any(1)].max()) for n in range(len(scene))]
        for a, relation, c in scene.relations():
            if relation == "left":
                assert x[a] < x[c] + 3  # perspective may take up to a few pixels off the margin
                checked += 1
            if relation == "front" and scene.objects[a].size == scene.objects[c].size:
                assert foot[a] > foot[c]
                checked += 1
    assert checked > 500


def test_boxes_are_tight(full):
    scenes, view = full
    for b in range(40):
        for n in range(len(scenes[b])):
            left, top, right, bottom = view.boxes[b, n].tolist()
            mask = view.visible[b, n]
            inside = mask[top:bottom, left:right]
            assert inside.sum() == mask.sum()
            assert (
                inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()
            )
    assert (view.boxes[0, len(scenes[0]) :] == 0).all()


def test_depth_of_the_table_and_of_a_sphere():
    scene = Scene((Object("sphere", "red"),), camera=Camera(0.0, 0.66, 13.0))
    view = render(scene, 65)
    # the table at the picture's middle, by hand: the axis meets height 0.3 at 13 and height 0 a
    # little later
    empty = render(Scene((), camera=scene.camera), 65)
    assert float(empty.depth[0, 32, 32]) == pytest.approx(13.0 + 0.30 / math.sin(0.66), abs=1e-3)
    nearest = float(view.depth[0][view.visible[0, 0]].min())
    middle = 13.0 - (shapes.SPHERE * SIZES["large"] - 0.30) * math.sin(0.66)
    assert nearest == pytest.approx(middle - shapes.SPHERE * SIZES["large"], abs=0.01)
    assert (view.depth <= empty.depth + 1e-4).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_hits_lie_on_the_surface(shape):
    """Points that the closed forms give, checked by walking along the ray with the shape's own
    inequality.
    """
    torch.manual_seed(0)
    start = torch.nn.functional.normalize(torch.randn(3, 4000), dim=0) * 4
    start[1] = start[1].abs() + 0.5
    aim = torch.stack([torch.rand(4000) * 2 - 1, torch.rand(4000) * 2, torch.rand(4000) * 2 - 1])
    rays = shapes.Rays(*start, *(aim - start))
    t = shapes.GEOMETRY[shape].hit(rays)
    steps = torch.linspace(0, 1.6, 1601)[:, None]
    inside = within(shape, *(o + steps * d for o, d in zip(rays[:3], rays[3:], strict=True)))
    first = torch.where(inside.any(0), inside.int().argmax(0) * 0.001, shapes.FAR)
    both = (t < shapes.FAR) & (first < shapes.FAR) & (t < 1.55)
    assert both.sum() > 500
    assert (
        (t < 1.55) == (first < 1.55)
    ).float().mean() > 0.985  # grazing rays fall between the steps
    assert (t[both] - first[both]).abs().quantile(0.99) < 0.006


def within(shape, x, y, z):
    """Whether points are inside a shape: from the sizes, not from the hit formulas."""
    r = (x**2 + z**2).sqrt()
    g = shapes
    return {
        "sphere": lambda: r**2 + (y - g.SPHERE) ** 2 < g.SPHERE**2,
        "cube": lambda: (x.abs() < g.CUBE) & (z.abs() < g.CUBE) & (y > 0) & (y < 2 * g.CUBE),
        "cylinder": lambda: (r < g.CYLINDER) & (y > 0) & (y < g.CYLINDER_HEIGHT),
        "cone": lambda: (y > 0) & (y < g.CONE_HEIGHT) & (r < g.CONE * (1 - y / g.CONE_HEIGHT)),
        "torus": lambda: (r - g.TORUS) ** 2 + (y - g.TUBE) ** 2 < g.TUBE**2,
        "pyramid": lambda: (
            (y > 0) & (torch.maximum(x.abs(), z.abs()) < g.PYRAMID * (1 - y / g.PYRAMID_HEIGHT))
        ),
        "capsule": lambda: (
            r**2 + (y - y.clamp(g.CAPSULE, g.CAPSULE_HEIGHT - g.CAPSULE)) ** 2 < g.CAPSULE**2
        ),
        "egg": lambda: (
            (r / g.EGG) ** 2 + ((y - g.EGG) / torch.where(y > g.EGG, g.EGG_TOP, g.EGG)) ** 2 < 1
        ),
    }[shape]()


@pytest.mark.parametrize("shape", SHAPES)
def test_faces_point_against_the_ray(shape):
    torch.manual_seed(1)
    start = torch.nn.functional.normalize(torch.randn(3, 2000), dim=0) * 4
    start[1] = start[1].abs() + 0.5
    aim = torch.stack([torch.rand(2000) - 0.5, torch.rand(2000), torch.rand(2000) - 0.5])
    rays = shapes.Rays(*start, *(aim - start))
    t = shapes.GEOMETRY[shape].hit(rays)
    rays, t = rays.take(t < 2), t[t < 2]
    n = shapes.GEOMETRY[shape].face(*rays.at(t))
    toward = n[0] * rays.dx + n[1] * rays.dy + n[2] * rays.dz
    above = rays.at(t)[1] > 1e-3  # the underside is never seen
    assert len(t) > 200
    assert (toward[above] <= 1e-3).float().mean() > 0.99


def test_same_bytes_whatever_the_batch_and_the_threads():
    scenes = splits.sample(40, "full", "train", seed=3)
    together = render(scenes, 64).to_uint8()
    alone = torch.cat([render(s, 64).to_uint8() for s in scenes])
    assert torch.equal(together, alone)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert torch.equal(together, render(scenes, 64).to_uint8())
    finally:
        torch.set_num_threads(threads)
    backwards = render(scenes[::-1], 64)
    assert torch.equal(together, backwards.to_uint8().flip(0))
    assert not torch.equal(
        together, render(splits.sample(40, "full", "train", seed=4), 64).to_uint8()
    )


def test_bounds_leave_nothing_out(monkeypatch):
    """Trying every ray against every object gives the same picture, shadows included."""
    scenes = splits.sample(24, "full", "count_ood") + splits.sample(12, "full", "render_ood")
    scenes += splits.sample(6, "full", "plates")
    quick = render(scenes, 96)

    def everything(corners, view, side):
        return np.tile(np.array([[0], [0], [side], [side]]), (1, view.shape[1]))

    monkeypatch.setattr(layout, "_box", everything)
    slow = render(scenes, 96)
    assert torch.equal(quick.to_uint8(), slow.to_uint8())
    assert torch.equal(quick.visible, slow.visible) and torch.equal(quick.whole, slow.whole)


def test_masks_do_not_depend_on_the_batch():
    scenes = splits.sample(20, "full", "train", seed=3)
    view = render(scenes, 64)
    for b in range(5):
        alone = render(scenes[b], 64)
        assert torch.equal(view.visible[b, : len(scenes[b])], alone.visible[0])
        assert torch.equal(view.depth[b], alone.depth[0])


def test_light_casts_a_shadow_away_from_the_lamp_that_touches_its_object():
    lamp = Light(azimuth=math.pi / 2, elevation=0.7, ambient=0.3)  # from the right
    for shape in ("cube", "cylinder", "cone", "pyramid"):
        scene = Scene((Object(shape, "red", rotation=0.0),), light=lamp)
        view, empty = render(scene, 128), render(Scene((), light=lamp), 128)
        left, _, right, bottom = view.boxes[0, 0].tolist()
        darker = (view.pixels / empty.pixels).mean(1)[0]
        row = bottom - 8
        assert darker[row, left - 4] < 0.75, shape  # beside it, on the far side of the lamp
        assert darker[row, left - 1] < 0.75, shape  # and up to its edge
        assert darker[row, right + 10] > 0.9, shape


def test_no_acne_and_no_cracks():
    """A smooth surface has no specks: neighbours inside an object differ little, but for edges."""
    for shape in ("sphere", "egg", "capsule", "cylinder", "cone", "torus"):
        scene = Scene((Object(shape, "gray"),), light=Light(azimuth=0.3, elevation=0.8))
        view = render(scene, 224)
        mask = view.visible[0, 0]
        image = view.pixels[0].mean(0)
        middle = (
            torch.nn.functional.max_pool2d(-(mask.float())[None], 5, 1, 2)[0] == -1
        )  # well inside
        around = torch.stack([image.roll(s, d) for s in (1, -1) for d in (0, 1)])
        speck = ((image > around.amax(0) + 0.06) | (image < around.amin(0) - 0.06)) & middle
        assert middle.sum() > 300
        assert speck.sum() == 0, shape


def test_metal_is_told_from_rubber_by_its_highlights():
    for shape in SHAPES:
        peak = {}
        for material in ("rubber", "metal"):
            scenes = [
                Scene((Object(shape, c, material, rotation=r),), light=Light(0.5, 0.9))
                for c in COLORS
                for r in (0.1, 1.0, 2.0)
            ]
            view = render(scenes, 64)
            light = [view.pixels[b][:, view.visible[b, 0]].mean(0) for b in range(len(scenes))]
            peak[material] = np.median([float(x.quantile(0.98) / x.quantile(0.75)) for x in light])
        assert peak["rubber"] < 1.27 < 1.35 < peak["metal"], (shape, peak)


def test_supersampling_smooths_edges_and_keeps_the_picture():
    scene = splits.sample(1, "full", num_objects=4)[0]
    rough, smooth = render(scene, 64), render(scene, 64, supersample=4)
    assert smooth.pixels.shape == rough.pixels.shape
    assert (rough.pixels - smooth.pixels).abs().mean() < 0.02
    levels = [len(torch.unique((v.pixels[0, 0] * 255).round())) for v in (rough, smooth)]
    assert levels[1] > levels[0]
    assert (rough.visible != smooth.visible).float().mean() < 0.02


def test_a_picture_agrees_with_itself_at_another_size():
    scenes = splits.sample(8, "full")
    small, large = render(scenes, 48, supersample=4), render(scenes, 96, supersample=2)
    assert (torch.nn.functional.avg_pool2d(large.pixels, 2) - small.pixels).abs().max() < 0.15
    assert (torch.nn.functional.avg_pool2d(large.pixels, 2) - small.pixels).abs().mean() < 0.005


def test_flat_shading_shows_plain_colours():
    scene = Scene((Object("egg", "orange"),), shading="flat")
    view = render(scene, 64)
    color = view.pixels[0][:, view.visible[0, 0]]
    assert torch.allclose(
        color, torch.tensor(COLORS["orange"])[:, None].expand_as(color), atol=1e-3
    )


def test_a_twin_changes_its_object_and_its_surroundings_only():
    scene = splits.sample(1, "full", seed=2, num_objects=3)[0]
    twin = recolour(scene, 1)
    before, after = render(scene, 64), render(twin, 64)
    changed = (before.pixels - after.pixels).abs().amax(1)[0] > 0.002
    assert changed.any()
    assert not (changed & ~before.visible[0, 1]).any()
    assert torch.equal(before.visible, after.visible)


def test_plates_are_read_by_their_ink():
    plate = Plate("cube", (0.0, 0.0), 0.6)
    dark = {}
    for text in ("cube", "egg"):
        scene = Scene((), plates=(Plate(text, (0.0, 0.0), 0.6),))
        pixels = render(scene, 128, supersample=2).pixels[0].mean(0)
        dark[text] = pixels < 0.4
        assert 40 < dark[text].sum() < 2500
    assert (dark["cube"] != dark["egg"]).any()
    # ink per area agrees with the card's texture
    ink = plates.texture("cube").mean()
    assert dark["cube"].sum() / (dark["cube"].sum() + (pixels > 0.9).sum() + 1e-9) < 3 * ink
    assert render(Scene((), plates=(plate,)), 96).visible.shape == (1, 0, 96, 96)


def test_plates_hide_little(full):
    scenes = splits.sample(120, "full", "plates")
    shown, bare = (
        render(scenes, 96),
        render([Scene(s.objects, s.light, s.camera) for s in scenes], 96),
    )
    for b, scene in enumerate(scenes):
        area = (shown.depth[b] < bare.depth[b] - 1e-4).float().mean()
        assert 0.02 < area < 0.15
        for n in range(len(scene)):
            assert shown.visible[b, n].sum() >= 0.9 * bare.visible[b, n].sum()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: render([], 64), "no scenes"),
        (lambda s: render(s, 8), "size 8 is not a whole number of pixels from 16 to 1024"),
        (lambda s: render(s, 64.0), r"size 64.0"),
        (lambda s: render(s, 64, supersample=0), "supersample 0"),
        (
            lambda s: render(Scene((), plates=(Plate("cube"),)), 64),
            "size 64 is too small to read a text plate; use 96",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(splits.sample(1))


def test_an_empty_table_can_be_rendered():
    view = render(Scene(()), 32)
    assert view.visible.shape == (1, 0, 32, 32)
    assert view.pixels.std() < 0.05
