"""Every kind of picture is read as it looks, and everything else is refused with a reason."""

import contextlib
import io
import os
import random
import re
import struct
import sys
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image, ImageFile
from PIL.PngImagePlugin import PngInfo

from vlmbook.images import ImageError, open_rgb

# Of a picture of 24 x 32: its quarters at the top left, top right, bottom left, bottom right.
COLORS = np.array([[200, 40, 30], [30, 160, 60], [40, 60, 190], [230, 200, 50]])
GRAYS = np.array([0, 90, 170, 255])
ALPHAS = np.array([0, 51, 204, 255])
HEIGHT, WIDTH = 24, 32


def corners(values):
    """(24, 32) or (24, 32, C) uint8 with one of four values in each quarter."""
    values = np.asarray(values).reshape(2, 2, *np.shape(values)[1:])
    return values.repeat(HEIGHT // 2, 0).repeat(WIDTH // 2, 1).astype(np.uint8)


RGB = Image.fromarray(corners(COLORS))
L = Image.fromarray(corners(GRAYS))
A = Image.fromarray(corners(ALPHAS))
RGBA = Image.merge("RGBA", [*RGB.split(), A])
LA = Image.merge("LA", [L, A])
P = Image.fromarray(corners([0, 1, 2, 3]))
P.putpalette(COLORS.flatten().tolist())
ONE = L.point(lambda v: 255 * (v > 100)).convert("1")
GRAY16 = np.array([0, 300, 40000, 65535])
I16 = Image.fromarray(GRAY16[corners([0, 1, 2, 3])].astype(np.uint16))
I16B = Image.fromarray(np.asarray(I16).astype(">u2"))
I32 = Image.fromarray(np.asarray(I16).astype(np.int32))
F = Image.fromarray(np.asarray(L) / np.float32(255))

ON_WHITE = COLORS * ALPHAS[:, None] / 255 + 255 - ALPHAS[:, None]
GRAY_ON_WHITE = GRAYS * ALPHAS / 255 + 255 - ALPHAS


def encode(image, form, second=False, **how):
    """The bytes of a file, with a second frame in black if asked for."""
    file = io.BytesIO()
    if second:
        how |= {"save_all": True, "append_images": [Image.new("RGB", image.size)]}
    image.copy().save(file, form, **how)  # a copy, because saving as JPEG changes an image
    return file.getvalue()


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width, height, depth, color, packed, *extra):
    """A PNG of which every part is chosen; packed is what zlib made of its rows."""
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    chunks = [chunk(b"IHDR", head), *extra, chunk(b"IDAT", packed), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def rows(array):
    """What PNG compresses: the bytes of each row after a 0, with the high byte first."""
    return zlib.compress(b"".join(b"\0" + row.tobytes() for row in array))


def tiff(tags, data):
    """A gray TIFF of one page with the tags {number: value}; 324 is set to where data begins."""
    tags = tags | {324: 8 + 2 + 12 * (len(tags) + 1) + 4}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data


def at_corners(pixels):
    """The colors in the middle of the quarters: (4, 3) in 0 to 255."""
    assert pixels.shape == (3, HEIGHT, WIDTH) and pixels.dtype == torch.float32
    assert pixels.is_contiguous() and pixels.min() >= 0 and pixels.max() <= 1
    middles = pixels[:, HEIGHT // 4 :: HEIGHT // 2, WIDTH // 4 :: WIDTH // 2]
    return 255 * middles.flatten(1).T.double().numpy()


def refused(source, message, **limits):
    """open_rgb refuses the source, in one sentence and without anything from inside a library."""
    with pytest.raises(ImageError, match=message) as caught:
        open_rgb(source, **limits)
    error = caught.value
    assert error.__cause__ is None and error.__suppress_context__
    assert "\n" not in str(error) and "<" not in str(error) and len(str(error)) < 500
    assert re.search("; .*(save|pass|check|shrink|replace|make|divide|scale)", str(error))


def gray(values):
    return np.repeat(np.asarray(values)[:, None], 3, 1)


SCALED = gray(GRAY16 / 65535 * 255)
CLEAR_16 = gray([0, 255, 40000 / 65535 * 255, 255])
SHARP = {"quality": 95, "subsampling": 0}
# name: (bytes, colors in the quarters, largest error in 0 to 255)
FILES = {
    "png": (encode(RGB, "PNG"), COLORS, 0),
    "png gray": (encode(L, "PNG"), gray(GRAYS), 0),
    "png gray alpha": (encode(LA, "PNG"), gray(GRAY_ON_WHITE), 0),
    "png rgba": (encode(RGBA, "PNG"), ON_WHITE, 0),
    "png palette": (encode(P, "PNG"), COLORS, 0),
    "png palette, one clear": (
        encode(P, "PNG", transparency=2),
        [*COLORS[:2], [255, 255, 255], COLORS[3]],
        0,
    ),
    "png palette, alphas": (encode(P, "PNG", transparency=bytes(ALPHAS.tolist())), ON_WHITE, 0),
    "png 1 bit": (encode(ONE, "PNG"), gray([0, 0, 255, 255]), 0),
    "png gray, one clear": (encode(L, "PNG", transparency=90), gray([0, 255, 170, 255]), 0),
    "png rgb, one clear": (
        encode(RGB, "PNG", transparency=tuple(COLORS[0].tolist())),
        [[255, 255, 255], *COLORS[1:]],
        0,
    ),
    "png 16 bit gray": (encode(I16, "PNG"), SCALED, 1e-4),
    "png 16 bit gray, one clear": (
        png(32, 24, 16, 0, rows(np.asarray(I16B)), chunk(b"tRNS", struct.pack(">H", 300))),
        CLEAR_16,
        1e-4,
    ),
    "png 16 bit rgb": (
        png(32, 24, 16, 2, rows((corners(COLORS) * 257.0).astype(">u2"))),
        COLORS,
        0,
    ),
    "png animated": (encode(RGB, "PNG", second=True), COLORS, 0),
    "jpeg": (encode(RGB, "JPEG", **SHARP), COLORS, 4),
    "jpeg progressive": (encode(RGB, "JPEG", progressive=True, **SHARP), COLORS, 4),
    "jpeg gray": (encode(L, "JPEG", quality=95), gray(GRAYS), 4),
    "jpeg cmyk": (encode(RGB.convert("CMYK"), "JPEG", **SHARP), COLORS, 6),
    "mpo": (encode(RGB, "MPO", **SHARP, second=True), COLORS, 4),
    "gif": (encode(P, "GIF"), COLORS, 0),
    "gif, one clear": (
        encode(P, "GIF", transparency=1),
        [COLORS[0], [255, 255, 255], *COLORS[2:]],
        0,
    ),
    "gif animated": (encode(P, "GIF", second=True), COLORS, 0),
    "gif gray": (encode(L, "GIF"), gray(GRAYS), 0),
    "webp": (encode(RGB, "WEBP", quality=95), COLORS, 8),
    "webp lossless": (encode(RGB, "WEBP", lossless=True), COLORS, 0),
    "webp rgba": (encode(RGBA, "WEBP", lossless=True, exact=True), ON_WHITE, 0),
    "webp animated": (encode(RGB, "WEBP", lossless=True, second=True), COLORS, 0),
    "bmp": (encode(RGB, "BMP"), COLORS, 0),
    "bmp palette": (encode(P, "BMP"), COLORS, 0),
    "bmp 1 bit": (encode(ONE, "BMP"), gray([0, 0, 255, 255]), 0),
    "tiff": (encode(RGB, "TIFF"), COLORS, 0),
    "tiff lzw": (encode(RGB, "TIFF", compression="tiff_lzw"), COLORS, 0),
    "tiff jpeg": (encode(RGB, "TIFF", compression="jpeg", quality=95), COLORS, 8),
    "tiff pages": (encode(RGB, "TIFF", second=True), COLORS, 0),
    "tiff rgba": (encode(RGBA, "TIFF"), ON_WHITE, 0),
    "tiff cmyk": (encode(RGB.convert("CMYK"), "TIFF"), COLORS, 0),
    "tiff lab": (encode(RGB.convert("LAB"), "TIFF"), COLORS, 4),
    "tiff 1 bit": (encode(ONE, "TIFF", compression="group4"), gray([0, 0, 255, 255]), 0),
    "tiff 16 bit": (encode(I16, "TIFF"), SCALED, 1e-4),
    "tiff 16 bit, high byte first": (encode(I16B, "TIFF"), SCALED, 1e-4),
    "tiff 32 bit": (encode(I32, "TIFF"), SCALED, 1e-4),
    "tiff float": (encode(F, "TIFF"), gray(GRAYS), 1e-4),
    "ppm": (encode(RGB, "PPM"), COLORS, 0),
    "pgm": (encode(L, "PPM"), gray(GRAYS), 0),
    "pgm 16 bit": (encode(I32, "PPM"), SCALED, 1e-4),
    "pbm": (encode(ONE, "PPM"), gray([0, 0, 255, 255]), 0),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_looks_as_it_should(kind, tmp_path):
    data, colors, error = FILES[kind]
    path = tmp_path / "사진 of any kind"
    path.write_bytes(data)
    pixels = open_rgb(path)
    assert np.abs(at_corners(pixels) - colors).max() <= error + 1e-4
    for source in (str(path), data, bytearray(data), memoryview(data)):
        assert torch.equal(open_rgb(source), pixels)
    with Image.open(path) as lazy:
        assert torch.equal(open_rgb(lazy), pixels)


def test_a_wrong_suffix_does_no_harm(tmp_path):
    path = tmp_path / "picture.JPG"
    path.write_bytes(FILES["png"][0])
    assert np.allclose(at_corners(open_rgb(path)), COLORS)


MODES = {
    "1": (ONE, gray([0, 0, 255, 255]), 0),
    "L": (L, gray(GRAYS), 0),
    "LA": (LA, gray(GRAY_ON_WHITE), 0),
    "La": (LA.convert("La"), gray(GRAY_ON_WHITE), 3),  # PIL rounds what it multiplies by alpha
    "P": (P, COLORS, 0),
    "PA": (P.convert("PA"), COLORS, 0),
    "RGB": (RGB, COLORS, 0),
    "RGBA": (RGBA, ON_WHITE, 0),
    "RGBa": (RGBA.convert("RGBa"), ON_WHITE, 3),
    "RGBX": (RGB.convert("RGBX"), COLORS, 0),
    "CMYK": (RGB.convert("CMYK"), COLORS, 0),
    "YCbCr": (RGB.convert("YCbCr"), COLORS, 3),
    "LAB": (RGB.convert("LAB"), COLORS, 4),
    "HSV": (RGB.convert("HSV"), COLORS, 4),
    "I": (I32, SCALED, 0),
    "I;16": (I16, SCALED, 0),
    "I;16B": (I16B, SCALED, 0),
    "F": (F, gray(GRAYS), 0),
}


def state(image):
    image.load()
    return image.mode, image.size, image.tobytes(), dict(image.info), image.getpalette(None)


@pytest.mark.parametrize("mode", MODES)
def test_an_image_in_any_mode_looks_as_it_should_and_stays_as_it_is(mode):
    image, colors, error = MODES[mode]
    assert image.mode == mode
    before = state(image)
    assert np.abs(at_corners(open_rgb(image)) - colors).max() <= error + 1e-4
    assert state(image) == before


def test_the_palette_of_a_caller_stays_opaque():
    with Image.open(io.BytesIO(FILES["png palette, alphas"][0])) as image:
        before = state(image)
        open_rgb(image)
        assert state(image) == before
        image.convert("RGBA")  # what would do harm
        assert state(image) != before


def test_an_image_is_read_at_the_frame_where_it_is():
    with Image.open(io.BytesIO(FILES["gif animated"][0])) as image:
        image.seek(1)
        assert open_rgb(image).max() == 0
        assert image.tell() == 1


# EXIF 2.32, 4.6.4: the side of the upright picture where row 0 and column 0 of the file are.
SIDES = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


def stored(orientation):
    """The picture as a camera stores it in this orientation."""
    first_row, first_column = SIDES[orientation]
    array = np.asarray(RGB)
    if first_row in ("left", "right"):
        array = array.transpose(1, 0, 2)
    array = array[::-1] if first_row in ("bottom", "right") else array
    return Image.fromarray(array[:, ::-1] if first_column in ("bottom", "right") else array)


TURNED = [
    ("PNG", {}),
    ("JPEG", SHARP),
    ("MPO", SHARP | {"second": True}),
    ("WEBP", {"lossless": True}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
]


@pytest.mark.parametrize("orientation", SIDES)
@pytest.mark.parametrize("form, how", TURNED)
def test_pictures_are_upright(form, how, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(stored(orientation), form, exif=exif, **how)
    error = 4 if form in ("JPEG", "MPO") else 1e-4
    assert np.abs(at_corners(open_rgb(data)) - COLORS).max() <= error
    with Image.open(io.BytesIO(data)) as lazy:
        assert torch.equal(open_rgb(lazy), open_rgb(data))
        assert torch.equal(open_rgb(lazy), open_rgb(data))  # and not turned twice
    sides = open_rgb(encode(stored(orientation), form, **how))
    assert (sides.shape == (3, HEIGHT, WIDTH)) == (orientation < 5)


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_unknown_orientation_turns_nothing(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.allclose(at_corners(open_rgb(encode(RGB, "PNG", exif=exif))), COLORS)


def test_damaged_exif_turns_nothing():
    for junk in (b"Exif\0\0junk", b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01", b"Exif\0\0MM"):
        data = encode(RGB, "JPEG", exif=junk, **SHARP)
        assert np.abs(at_corners(open_rgb(data)) - COLORS).max() <= 4
    text = PngInfo()
    text.add_text("Raw profile type exif", "\nexif\n4\nno number")
    assert np.allclose(at_corners(open_rgb(encode(RGB, "PNG", pnginfo=text))), COLORS)


WHOLE = corners(COLORS)
HALF = WHOLE.astype(np.float32) / 255
TRANSPARENT = np.asarray(RGBA)
SHAPES = {
    "(H, W)": (np.asarray(L), gray(GRAYS)),
    "(H, W, 1)": (np.asarray(L)[..., None], gray(GRAYS)),
    "(1, H, W)": (np.asarray(L)[None], gray(GRAYS)),
    "(H, W, 3)": (WHOLE, COLORS),
    "(3, H, W)": (WHOLE.transpose(2, 0, 1), COLORS),
    "(H, W, 4)": (TRANSPARENT, ON_WHITE),
    "(4, H, W)": (TRANSPARENT.transpose(2, 0, 1), ON_WHITE),
}
TYPES = {
    "uint8": lambda a: a,
    "uint16": lambda a: a.astype(np.uint16) * 257,
    "uint16, high byte first": lambda a: (a * 257.0).astype(">u2"),
    "float16": lambda a: (a / 255).astype(np.float16),
    "float32": lambda a: (a / 255).astype(np.float32),
    "float32, high byte first": lambda a: (a / 255).astype(">f4"),
    "float64": lambda a: a / 255,
    "longdouble": lambda a: a / np.longdouble(255),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", TYPES)
def test_arrays_and_tensors(shape, kind):
    array, colors = SHAPES[shape]
    array = TYPES[kind](array)
    error = 0.2 if kind == "float16" else 1e-3
    pixels = open_rgb(array)
    assert np.abs(at_corners(pixels) - colors).max() <= error
    if array.dtype.isnative and kind != "longdouble":
        assert torch.equal(open_rgb(torch.from_numpy(array.copy())), pixels)


def test_arrays_of_bool_are_black_and_white():
    array = np.asarray(L) > 100
    for source in (array, torch.from_numpy(array)):
        assert np.array_equal(at_corners(open_rgb(source)), gray([0, 0, 255, 255]))


def readonly(array):
    array = array.copy()
    array.flags.writeable = False
    return array


LAYOUTS = {
    "turned by 180 degrees": (WHOLE[::-1, ::-1], COLORS[::-1]),
    "in Fortran's order": (np.asfortranarray(WHOLE), COLORS),
    "read-only": (readonly(WHOLE), COLORS),
    "read-only floats": (readonly(HALF), COLORS),
    "BGR": (WHOLE[..., ::-1], COLORS[:, ::-1]),
    "broadcast": (np.broadcast_to(np.uint8(9), (HEIGHT, WIDTH)), [[9, 9, 9]] * 4),
    "tensor with a gradient": (torch.tensor(HALF, requires_grad=True), COLORS),
    "transposed tensor": (torch.tensor(HALF).transpose(0, 1).contiguous().transpose(0, 1), COLORS),
    "bfloat16": (torch.tensor(HALF).bfloat16(), COLORS),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays_in_any_layout(layout):
    source, colors = LAYOUTS[layout]
    assert np.abs(at_corners(open_rgb(source)) - colors).max() <= (1 if "bf" in layout else 1e-3)


def test_a_shape_that_fits_both_orders_is_read_by_the_custom_of_its_library():
    values = np.random.default_rng(0).random((3, 5, 3), np.float32)
    assert torch.equal(open_rgb(values), torch.from_numpy(values).permute(2, 0, 1))
    assert torch.equal(open_rgb(torch.from_numpy(values)), torch.from_numpy(values))
    assert open_rgb(np.zeros((4, 4, 3))).shape == open_rgb(torch.zeros(3, 4, 4)).shape == (3, 4, 4)
    assert open_rgb(np.zeros((1, 7))).shape == open_rgb(np.zeros((1, 7, 1))).shape == (3, 1, 7)


def test_pixels_are_the_callers_to_change():
    sources = [torch.tensor(HALF).permute(2, 0, 1).contiguous(), HALF, torch.ones(1, 1, 1), F]
    for source in sources:
        before = np.asarray(source).copy()
        open_rgb(source).mul_(0.5)
        assert np.array_equal(np.asarray(source), before)


def test_alpha_never_leaves_the_range():
    alpha, value = np.mgrid[:256, :256]
    for white in (255, 65535):
        rgba = np.stack([value, value, value, alpha], -1) * (white // 255)
        pixels = open_rgb(rgba.astype(np.uint8 if white == 255 else np.uint16))
        assert pixels.min() >= 0 and pixels.max() <= 1
        assert (pixels[:, 0] == 1).all()  # wholly clear
        assert torch.equal(pixels[0, 255], torch.arange(256) / 255)  # wholly opaque


def cut(kind, part=0.5):
    return FILES[kind][0][: int(len(FILES[kind][0]) * part)]


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def gif(canvas, frame, disposal=0):
    """The beginning of a GIF whose first frame need not fit its canvas."""
    control = b"!\xf9\x04" + bytes([disposal << 2]) + bytes(4)
    image = b"," + struct.pack("<4H", 0, 0, *frame) + b"\0\x02\x02\x44\x01\0;"
    return b"GIF89a" + struct.pack("<2H", *canvas) + bytes(3) + control + image


def webp(width, height):
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<II", 10, 0) + size


def packed_zeros(num, at_once):
    """What zlib makes of num zero bytes, without packing each of them."""
    press = zlib.compressobj(wbits=-15)
    block = press.compress(bytes(at_once)) + press.flush(zlib.Z_FULL_FLUSH)
    checksum = struct.pack(">I", (num % 65521 << 16) + 1)
    return b"\x78\x9c" + num // at_once * block + b"\3\0" + checksum


def huge_png():
    """50 000 x 50 000 black and white pixels: 300 KB, which PIL decodes to 2.5 GB."""
    row = 1 + 50_000 // 8
    return png(50_000, 50_000, 1, 0, packed_zeros(50_000 * row, 100 * row))


def tile_bomb(side=20_000):
    """A TIFF of 10 x 10 pixels, cut from one tile of 20 000 x 20 000."""
    packed = packed_zeros(side * side, 100 * side)
    tags = {256: 10, 257: 10, 258: 8, 259: 8, 262: 1, 277: 1, 322: side, 323: side}
    return tiff(tags | {325: len(packed)}, packed)


def text_bomb():
    text = PngInfo()
    text.add_text("long", "a" * 3_000_000, zip=True)
    return encode(RGB, "PNG", pnginfo=text)


BOMBS = {
    "png": (huge_png, r"too large: .*2500000000 pixels.*; make it smaller"),
    "png under PIL's limit": (
        lambda: png(10_000, 10_000, 1, 0, b""),
        r"10000 x 10000 pixels, over the limit of 25,000,000; shrink it or raise max_pixels",
    ),
    "gif with a frame larger than its canvas": (
        lambda: gif((1, 1), (9000, 9000)),
        "9000 x 9000 pixels, over the limit",
    ),
    "gif with a frame far larger than its canvas": (
        lambda: gif((1, 1), (65535, 65535), disposal=2),
        "too large: .* pixels; make it smaller",
    ),
    "gif with a large canvas": (
        lambda: gif((65535, 65535), (1, 1)),
        "too large: .* pixels; make it smaller",
    ),
    "webp": (lambda: webp(2**24, 200), "16777216 x 200 pixels, over the limit"),
    "webp under PIL's limit": (
        lambda: webp(10_000, 10_000),
        "10000 x 10000 pixels, over the limit",
    ),
    "tiff tile": (tile_bomb, "a tile of .* is 20000 x 20000 pixels, over the limit"),
    "png text": (text_bomb, "can't be read .*[Tt]oo [Ll]arge.*save it anew"),
}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps to RLIMIT_AS")
def test_bombs_are_refused_in_little_memory():
    import resource

    bombs = {name: make() for name, (make, _) in BOMBS.items()}
    assert 100_000 < len(bombs["png"]) < 1_000_000
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 200_000_000, before[1]))
    try:
        with pytest.raises(MemoryError):
            np.empty(400_000_000, np.uint8)
        for name, (_, message) in BOMBS.items():
            refused(bombs[name], message)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("max_bytes", [1000, 3_000_000])
def test_of_a_large_file_little_is_read(max_bytes, tmp_path):
    path = tmp_path / "large.png"
    with path.open("wb") as file:
        file.truncate(10**9)
    tracemalloc.start()
    try:
        refused(path, f"large.png' is over {max_bytes:,} bytes; shrink it", max_bytes=max_bytes)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert max_bytes < peak < max_bytes + 500_000


BROKEN = {
    "empty": (b"", "is empty; save or download it again"),
    "text": (b"a letter", "is none of PNG, JPEG, .*PPM, or is damaged; save it as PNG or JPEG"),
    "zeros": (bytes(1000), "is none of"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is none of"),
    "pdf": (b"%PDF-1.7 ", "is none of"),
    "heic": (b"\0\0\0\x24ftypheic" + bytes(30), "is none of"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "is none of"),
    "pcx": (encode(RGB, "PCX"), "is none of"),
    "tga": (encode(RGB, "TGA"), "is none of"),
    "only the head of a png": (FILES["png"][0][:20], "can't be read .*save it anew"),
    "png without its end": (FILES["png"][0][:-8], "can't be read .*save it anew"),
    "png with another size": (flipped(FILES["png"][0], 19), ".*or is damaged; save it"),
    "gray from 0 to 65536": (
        encode(Image.fromarray(np.array([[0, 65536]], np.int32)), "TIFF"),
        "has gray values from 0 to 65536; scale them into 0 to 65535",
    ),
    "gray below 0": (
        encode(Image.fromarray(np.array([[-1, 9]], np.int32)), "TIFF"),
        "has gray values from -1 to 9; scale them",
    ),
    "float above 1": (
        encode(Image.fromarray(np.array([[0, 255]], np.float32)), "TIFF"),
        "goes from 0 to 255, not from 0 to 1; divide it by 255",
    ),
    "float nan": (
        encode(Image.fromarray(np.array([[0, np.nan]], np.float32)), "TIFF"),
        "has NaN or infinite values; replace them",
    ),
}
BROKEN |= {
    f"half a {kind}": (cut(kind), ".*damaged; (open|save)")
    for kind in FILES
    if kind != "tiff pages"
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_refused(kind, tmp_path):
    data, message = BROKEN[kind]
    refused(data, f"^the file of {len(data):,} bytes {message}")
    path = tmp_path / "broken.png"
    path.write_bytes(data)
    refused(path, f"broken.png' {message}")


def test_changed_pixels_are_noticed():
    """PIL decodes many a PNG whose bytes have changed, because it looks at no checksum then."""
    noise = np.random.default_rng(0).integers(0, 4, (300, 300, 3), np.uint8)
    packed = rows(noise)
    data = png(300, 300, 8, 2, packed)
    assert torch.equal(open_rgb(data), torch.from_numpy(noise).permute(2, 0, 1) / 255)
    accepted = 0
    for at in range(data.index(packed) + len(packed) // 2, len(data), len(packed) // 40):
        changed = flipped(data, at)
        refused(changed, "can't be read .* and may be damaged; open it again or save it anew")
        with Image.open(io.BytesIO(changed)) as image, contextlib.suppress(OSError):
            accepted += image.load() is not None
    assert accepted > 0


def test_a_broken_file_is_refused_also_when_pil_has_opened_it():
    for kind, part in {"png": 0.6, "jpeg": 0.9, "gif": 0.5, "bmp": 0.5, "tiff": 0.5}.items():
        with Image.open(io.BytesIO(cut(kind, part))) as lazy:
            refused(lazy, "image of 32 x 24 pixels can't be read .*save it anew")


def test_other_programs_are_not_run(monkeypatch):
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *a, **k: pytest.fail("it ran"))
    with Image.open(io.BytesIO(BROKEN["eps"][0])) as lazy:
        refused(lazy, r"of format EPS, which is not opened here; save it as PNG, or pass its copy")
        with pytest.raises(pytest.fail.Exception, match="it ran"):
            lazy.copy()
    with Image.open(io.BytesIO(BROKEN["pcx"][0])) as lazy:
        refused(lazy, "of format PCX")
        assert np.allclose(at_corners(open_rgb(lazy.copy())), COLORS)


NO_FILES = {
    "https://example.org/cat.png": "is a web address; nothing is downloaded, so save it first",
    "HTTP://example.org/cat.png": "is a web address",
    "file:///home/cat.png": "is a web address",
    "data:image/png;base64,iVBORw0": "is a web address",
    "no such file.png": r"'no such file.png' can't be opened \(No such file.*; check the path",
    "": "is a folder; pass the path of one picture in it",
    "tests": "'tests' is a folder; pass",
    "a\0b.png": r"'a\\x00b.png' can't be opened \(.*null.*check the path",
    "long" * 200: r"'longlong[^ ]*\.\.\.[^ ]*' can't be opened .*check the path",
    f"{__file__}/cat.png": "can't be opened .*check the path",
    "/dev/zero": "'/dev/zero' is a pipe or a device; save the picture in a file first",
}


@pytest.mark.parametrize("path", NO_FILES)
def test_a_path_without_a_picture_is_refused(path, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[1])
    monkeypatch.setattr(Path, "open", lambda *a, **k: pytest.fail("it was opened"))
    if path.startswith("/dev") and not Path(path).exists():
        pytest.skip("this system has no such device")
    refused(path, NO_FILES[path])
    if "\0" not in path:
        refused(Path(path), "folder" if path == "" else NO_FILES[path])


def test_a_pipe_is_not_read(tmp_path, monkeypatch):
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    os.mkfifo(tmp_path / "pipe.png")
    monkeypatch.setattr(Path, "open", lambda *a, **k: pytest.fail("it was opened"))
    refused(tmp_path / "pipe.png", "pipe.png' is a pipe or a device; save")


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    def denied(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "secret.png"
    path.write_bytes(FILES["png"][0])
    monkeypatch.setattr(Path, "open", denied)
    refused(path, r"secret.png' can't be opened \(Permission denied\); check the path")


Z = np.zeros
BAD_ARRAYS = {
    "vector": (Z(9), r"of shape \(9,\) is not one picture; pass \(H, W\), \(H, W, C\)"),
    "number": (Z(()), r"of shape \(\) is not one picture"),
    "batch": (torch.zeros(1, 3, 8, 8), r"Tensor of shape \(1, 3, 8, 8\) is not one picture"),
    "two channels": (Z((8, 8, 2)), r"\(8, 8, 2\) is not one picture"),
    "no rows": (Z((0, 8)), r"\(0, 8\) has no pixels; pass"),
    "no columns": (torch.zeros(3, 8, 0), "has no pixels; pass"),
    "no channels": (Z((8, 8, 0)), "is not one picture"),
    "int64": (Z((8, 8), int), "holds int64; make it uint8 in 0 to 255 or float"),
    "int8": (Z((8, 8), np.int8), "holds int8"),
    "int16 tensor": (torch.zeros(8, 8, dtype=torch.int16), "holds int16; make it uint8"),
    "complex": (Z((8, 8), complex), "holds complex128"),
    "complex tensor": (torch.zeros(8, 8, dtype=torch.cfloat), "holds complex64"),
    "text": (np.full((8, 8), "a"), "holds str.*; make it uint8"),
    "objects": (np.full((8, 8), None), "holds object"),
    "dates": (Z((8, 8), "M8[s]"), "holds datetime64"),
    "records": (Z((8, 8), [("r", "u1")]), "holds void"),
    "nan": (
        np.full((8, 8), np.nan),
        "has NaN or infinite values; replace them, e.g. by nan_to_num",
    ),
    "infinite": (torch.tensor([[0, -torch.inf]]), "has NaN or infinite values"),
    "bytes as floats": (
        WHOLE.astype(float),
        "goes from 30 to 230, not from 0 to 1; divide it by 255",
    ),
    "normalized": (torch.linspace(-2.5, 2.5, 9).view(3, 3), "from -2.5 to 2.5, .* clip or rescale"),
    "just over": (np.float32([[0, 1.0000002]]), r"from 0 to 1\.0000002\d* *, not"),
    "huge": (np.array([[0, 1e300]]), r"from 0 to 1e\+300"),
    "without values": (
        torch.zeros(8, 8, device="meta"),
        "is sparse or has no values; pass a dense tensor",
    ),
    "sparse": (torch.eye(8).to_sparse(), "is sparse or has no values"),
    "too large": (np.broadcast_to(np.uint8(0), (5001, 5000)), "5000 x 5001 pixels, over the limit"),
    "far too large": (
        torch.zeros(1, 1, 1).expand(3, 10**6, 10**6),
        "1000000 x 1000000 pixels, over",
    ),
}


@pytest.mark.parametrize("kind", BAD_ARRAYS)
def test_a_bad_array_is_refused(kind):
    refused(*BAD_ARRAYS[kind])


def test_a_bad_image_is_refused():
    refused(Image.new("RGB", (0, 5)), "RGB image of 0 x 5 pixels has no pixels; pass")
    refused(Image.new("L", (5001, 5000)), "5001 x 5000 pixels, over the limit of 25,000,000")
    closed = RGB.copy()
    closed.close()
    refused(closed, "can't be read .*may be damaged; open it again or save it anew")


@pytest.mark.parametrize("source", [None, 3, 0.5, [[0, 1]], io.BytesIO(), {"path": "x"}, object()])
def test_another_type_is_refused(source):
    kind = type(source).__name__
    with pytest.raises(
        TypeError, match=f"can't be a {kind}; pass a path, the bytes of a file, a PIL"
    ):
        open_rgb(source)


LIMITED = [
    "png",
    "jpeg",
    "mpo",
    "gif",
    "webp",
    "webp lossless",
    "webp animated",
    "bmp",
    "tiff",
    "ppm",
]


@pytest.mark.parametrize("kind", LIMITED)
def test_limits_are_exact(kind):
    data = FILES[kind][0]
    most = {"max_pixels": HEIGHT * WIDTH, "max_bytes": len(data)}
    assert torch.equal(open_rgb(data, **most), open_rgb(data))
    refused(data, "32 x 24 pixels, over the limit of 767; ", max_pixels=767)
    refused(data, "is over .* bytes; shrink it or raise max_bytes", max_bytes=len(data) - 1)
    if "webp" in kind:
        refused(
            data[:30], "32 x 24 pixels, over", max_pixels=767
        )  # nothing else has been looked at


def test_limits_may_be_lifted():
    assert np.allclose(at_corners(open_rgb(FILES["png"][0], 10**15, 10**15)), COLORS)


def test_a_small_limit_of_pixels_is_not_one_for_tiles():
    black = open_rgb(tile_bomb(side=800), max_pixels=100)
    assert black.shape == (3, 10, 10) and black.max() == 0


def test_settings_of_pil_and_of_warnings_stay():
    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)
    open_rgb(FILES["png palette, alphas"][0])
    refused(cut("png"), "be damaged")
    after = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)
    assert after == before


SMALL = {  # of 6 x 4 pixels, so that many of their bytes decide what is read
    kind: encode(image.resize((6, 4)), form, **how)
    for kind, image, form, how in [
        ("png", RGB, "PNG", {}),
        ("png palette", P, "PNG", {"transparency": b"\0\x80"}),
        ("jpeg", RGB, "JPEG", {}),
        ("mpo", RGB, "MPO", {"second": True}),
        ("gif", P, "GIF", {"second": True}),
        ("webp", RGBA, "WEBP", {}),
        ("webp lossless", RGBA, "WEBP", {"lossless": True}),
        ("bmp", P, "BMP", {}),
        ("tiff", RGB, "TIFF", {}),
        ("tiff lzw", I16, "TIFF", {"compression": "tiff_lzw"}),
        ("tiff jpeg", RGB, "TIFF", {"compression": "jpeg"}),
        ("ppm", RGB, "PPM", {}),
    ]
}


def spoilt(data, random):
    """data with some bytes changed, most often near its head; cut; or with some bytes twice."""
    changed = bytearray(data)
    for _ in range(random.choice([1, 1, 2, 8])):
        at = random.randrange(random.choice([40, len(data)]))
        changed[at % len(data)] = random.choice([0, 1, 0x7F, 0xFF, random.randrange(256)])
    at, end = sorted(random.randrange(len(data)) for _ in range(2))
    return bytes(random.choice([changed, changed, changed[:end], changed[:end] + changed[at:]]))


@pytest.mark.parametrize("kind", SMALL)
def test_spoilt_files_give_pixels_or_a_reason(kind):
    chance = random.Random(kind)
    results = {"pixels": 0, "refused": 0}
    for _ in range(60):
        try:
            pixels = open_rgb(spoilt(SMALL[kind], chance), max_pixels=100_000)
        except ImageError as error:
            assert error.__cause__ is None and error.__suppress_context__ and "; " in str(error)
            results["refused"] += 1
        else:
            assert pixels.dtype == torch.float32 and pixels.ndim == 3 and len(pixels) == 3
            assert pixels.min() >= 0 and pixels.max() <= 1
            results["pixels"] += 1
    assert results["refused"] >= 10, results
