"""Readers' own pictures: anything that may hold one, opened as RGB or refused with the reason.

Letters: C H W channels, height and width of pixels.

Book: concepts/processing.md.
"""

from __future__ import annotations

import io
import re
import stat
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

MAX_PIXELS = 25_000_000
MAX_BYTES = 50_000_000
# PIL knows more formats, some of which run other programs (EPS). MPO, the double pictures of some
# phones, has no opener of its own there: the one of JPEG returns it.
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM")
WITH_ALPHA = ("LA", "La", "P", "PA", "RGBA", "RGBa")  # PIL's modes; P may have it in the palette
WHITE = {"bool": 1, "uint8": 255, "uint16": 65535}
# The axes of (H, W, C) to flip for each EXIF orientation; 5 to 8 also exchange H and W, before.
FLIPS = {1: (), 2: (1,), 3: (0, 1), 4: (0,), 5: (), 6: (1,), 7: (0, 1), 8: (0,)}
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/|data:", re.IGNORECASE)  # but not C:/


class ImageError(ValueError):
    """A picture that can't be opened; the message says why, and what to do."""


def open_rgb(
    source: str | Path | bytes | Image.Image | np.ndarray | Tensor,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
) -> Tensor:
    """Any picture as pixels (3, H, W) float32 in [0, 1], in memory of their own.

    source is the path or the bytes of a PNG, JPEG, GIF, WebP, BMP, TIFF or PPM file, a PIL image,
    or an array or tensor: (H, W), (H, W, C) or (C, H, W) with C = 1, 3 or 4, of bool, uint8, uint16
    or floats in [0, 1]. A shape that fits both orders, such as (3, H, 3), is read as (H, W, C) in
    an array and as (C, H, W) in a tensor.

    Pictures are turned upright by their EXIF orientation, and laid over white where they are
    transparent. 16-bit gray keeps its precision; PIL reduces 16-bit colors to 8 bits. Of several
    frames or pages the first is read; of a PIL image, the one it is at. Color profiles are ignored.

    ImageError if it is no such picture, is damaged, or has more than max_pixels pixels or max_bytes
    bytes of file; TypeError for another type of source.
    """
    name = _name(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if isinstance(source, (np.ndarray, Tensor)):
                return _from_array(name, source, max_pixels)
            if isinstance(source, Image.Image):
                return _from_image(name, source, max_pixels)
            if isinstance(source, (str, Path)):
                source = _read(name, Path(source), max_bytes)
            return _from_bytes(name, source, max_pixels, max_bytes)
    except ImageError as error:
        raise error from None
    except UnidentifiedImageError:
        message = f"is none of {', '.join(FORMATS)}, or is damaged; save it as PNG or JPEG"
    except Image.DecompressionBombError as error:
        message = f"is too large: {str(error).partition(',')[0]}; make it smaller"
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        message = f"can't be read ({reason}) and may be damaged; open it again or save it anew"
    raise ImageError(f"{name} {message}") from None


def _name(source: object) -> str:
    """What messages call the source."""
    if isinstance(source, (str, Path)):
        text = str(source)
        return repr(text if len(text) <= 200 else f"{text[:60]}...{text[-60:]}")
    if isinstance(source, (bytes, bytearray, memoryview)):
        return f"the file of {memoryview(source).nbytes:,} bytes"
    if isinstance(source, Image.Image):
        return f"the {source.mode} image of {source.width} x {source.height} pixels"
    if isinstance(source, (np.ndarray, Tensor)):
        return f"the {type(source).__name__} of shape {tuple(source.shape)}"
    raise TypeError(
        f"a picture can't be a {type(source).__name__}; pass a path, the bytes of a file, a PIL "
        "image, a numpy array or a torch tensor"
    )


def _read(name: str, path: Path, max_bytes: int) -> bytes:
    """The bytes of a regular file, and no more than max_bytes + 1 of them."""
    if ADDRESS.match(path.as_posix()):
        raise ImageError(f"{name} is a web address; nothing is downloaded, so save it first")
    try:
        status = path.stat()
        if stat.S_ISREG(status.st_mode):
            with path.open("rb") as file:
                return file.read(min(status.st_size, max_bytes) + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(
            f"{name} can't be opened ({reason}); check the path, which starts at {Path.cwd()}"
        ) from None
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(f"{name} is a folder; pass the path of one picture in it")
    raise ImageError(f"{name} is a pipe or a device; save the picture in a file first")


def _from_bytes(name: str, data: bytes, max_pixels: int, max_bytes: int) -> Tensor:
    size = memoryview(data).nbytes
    if size == 0:
        raise ImageError(f"{name} is empty; save or download it again")
    if size > max_bytes:
        raise ImageError(f"{name} is over {max_bytes:,} bytes; shrink it or raise max_bytes")
    data = bytes(data)
    _check_size(name, *_webp_size(data), max_pixels)
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        image.verify()  # the checksums of a PNG, which loading passes over
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        return _from_image(name, image, max_pixels)


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height of a WebP (RFC 9649), whose canvas PIL allocates on opening; else 1, 1."""

    def number(start: int, end: int) -> int:
        return int.from_bytes(data[start:end], "little")

    sizes = {
        b"VP8X": (number(24, 27) + 1, number(27, 30) + 1),
        b"VP8L": (number(21, 25) % 2**14 + 1, (number(21, 25) >> 14) % 2**14 + 1),
        b"VP8 ": (number(26, 28) % 2**14 or 1, number(28, 30) % 2**14 or 1),
    }
    return sizes.get(data[12:16], (1, 1)) if data[8:12] == b"WEBP" else (1, 1)


def _from_image(name: str, image: Image.Image, max_pixels: int) -> Tensor:
    if image.format not in (None, "MPO", *FORMATS):
        raise ImageError(
            f"{name} comes from a file of format {image.format}, which is not opened here; save it "
            "as PNG, or pass its copy() if you trust the file"
        )
    _check_size(name, *image.size, max_pixels)
    tags = getattr(image, "tag_v2", {})  # those of a TIFF, where a tile may exceed the picture
    tile_width, tile_height = tags.get(322, 1), tags.get(323, 1)
    _check_size(f"a tile of {name}", tile_width, tile_height, max(max_pixels, MAX_PIXELS))
    loaded = image.copy()  # convert() would write to the palette of a caller's image
    orientation = _orientation(image)
    channels = _channels(name, loaded)
    upright = channels.swapaxes(0, 1) if orientation >= 5 else channels
    return _over_white(_unit(name, np.flip(upright, FLIPS[orientation])))


def _orientation(image: Image.Image) -> int:
    """1 to 8 as in EXIF; 1 if a loaded image has none or can't tell."""
    if image.format == "TIFF":
        return 1  # PIL turns it while loading
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
        return orientation if orientation in FLIPS else 1
    except Exception:
        return 1


def _channels(name: str, image: Image.Image) -> np.ndarray:
    """(H, W, C) of bool, uint8, uint16 or float32; C is 1, 3 or 4."""
    if image.mode == "F":
        return np.asarray(image)[..., None]
    if image.mode == "I" or image.mode.startswith("I;16"):
        gray = np.asarray(image)
        if gray.min() < 0 or gray.max() > 65535:
            raise ImageError(
                f"{name} has gray values from {gray.min()} to {gray.max()}; scale them into 0 to "
                "65535 or, as floats, into [0, 1]"
            )
        clear = gray == image.info.get("transparency", -1)
        return np.where(clear, 65535, gray).astype(np.uint16)[..., None]
    if image.mode == "La":
        image = image.convert("LA")
    keyed = image.mode in ("1", "L", "RGB") and "transparency" in image.info
    return np.asarray(image.convert("RGBA" if keyed or image.mode in WITH_ALPHA else "RGB"))


def _from_array(name: str, source: np.ndarray | Tensor, max_pixels: int) -> Tensor:
    shape, is_tensor = tuple(source.shape), isinstance(source, Tensor)
    first, last = (len(shape) == 3 and shape[axis] in (1, 3, 4) for axis in (0, 2))
    if not (len(shape) == 2 or first or last):
        raise ImageError(
            f"{name} is not one picture; pass (H, W), (H, W, C) or (C, H, W) with C = 1, 3 or 4"
        )
    first = first and (is_tensor or not last)
    height, width = shape[1:] if first else shape[:2]
    _check_size(name, width, height, max_pixels)
    if is_tensor:
        if source.layout != torch.strided or source.is_meta:
            raise ImageError(f"{name} is sparse or has no values; pass a dense tensor")
        source = source.float() if source.is_floating_point() else source  # numpy has no bfloat16
        source = source.numpy(force=True)
    array = np.asarray(source).reshape(*shape[:2], -1)
    return _over_white(_unit(name, np.moveaxis(array, 0, 2) if first else array))


def _check_size(name: str, width: int, height: int, max_pixels: int) -> None:
    if width * height == 0:
        raise ImageError(f"{name} has no pixels; pass a picture of 1 x 1 or more")
    if width * height > max_pixels:
        raise ImageError(
            f"{name} is {width} x {height} pixels, over the limit of {max_pixels:,}; "
            "shrink it or raise max_pixels"
        )


def _unit(name: str, array: np.ndarray) -> np.ndarray:
    """A float32 copy in which 1 is white."""
    kind = array.dtype.name
    if kind in WHITE:
        return np.divide(array, WHITE[kind], dtype=np.float32)
    if array.dtype.kind != "f":
        raise ImageError(f"{name} holds {kind}; make it uint8 in 0 to 255 or float in [0, 1]")
    low, high = array.min(), array.max()  # NaN if there is one
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ImageError(f"{name} has NaN or infinite values; replace them, e.g. by nan_to_num")
    if low < 0 or high > 1:
        raise ImageError(
            f"{name} goes from {low:.9g} to {high:.9g}, not from 0 to 1; divide it by 255 if it "
            "holds bytes, else clip or rescale it"
        )
    return array.astype(np.float32)


def _over_white(values: np.ndarray) -> Tensor:
    """RGB (3, H, W) of gray, RGB or RGBA (H, W, C)."""
    pixels = torch.from_numpy(values).permute(2, 0, 1)
    if len(pixels) == 4:
        alpha = pixels[3:]
        pixels = pixels[:3] * alpha + (1 - alpha)
    return pixels.expand(3, -1, -1).contiguous()
