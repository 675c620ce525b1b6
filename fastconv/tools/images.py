"""Image files as arrays (C, H, W), float32 in [0, 1]."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fastconv.ops.arrays import FLOAT32, Array
from fastconv.ops.errors import bad_value
from fastconv.tools.extras import require

SUFFIXES = frozenset(
    (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)


def read(path: Path, channels: int | None = None, side: int | None = None) -> Array:
    """One image as it is meant to be seen: turned as its camera noted, transparent pixels on white.

    Parameters
    ----------
    path : Path
    channels : {1, 3}, optional
        Grey or colours; default: as the file has it.
    side : int, optional
        Scale the shorter side to it and cut the middle square out; default: the file's own pixels.

    Raises
    ------
    ValueError
        Where the file is no image, or a damaged one.
    """
    image_module = require("PIL.Image", "reading images")
    operations = require("PIL.ImageOps", "reading images")
    if not path.is_file():
        bad_value("images", f"there is no file {path}", "name an image file")
    try:
        with image_module.open(path) as file:
            image = operations.exif_transpose(file)
            image.load()
            image = plain(image, channels, image_module)
    except (OSError, SyntaxError, ValueError, EOFError, image_module.DecompressionBombError) as error:
        bad_value("images", f"{path} cannot be read ({reason(error)})", "replace it by a whole image file")
    if side is not None:
        image = operations.fit(image, (side, side), image_module.Resampling.BILINEAR)
    pixels = np.asarray(image, FLOAT32) / FLOAT32.type(255)
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))


def plain(image: Any, channels: int | None, image_module: Any) -> Any:
    """The image in mode L or RGB."""
    if image.mode.startswith("I;16"):  # Pillow would cut 16 bits at 255 instead of scaling them
        image = image_module.fromarray((np.asarray(image) // 257).astype(np.uint8))
    if channels is None:
        channels = 1 if image.mode in ("1", "L", "LA", "La") else 3
    if image.has_transparency_data:
        white = image_module.new("RGBA", image.size, "white")
        image = image_module.alpha_composite(white, image.convert("RGBA"))
    return image.convert("L" if channels == 1 else "RGB")


def reason(error: Exception) -> str:
    """What the reader of images said, without the file's name."""
    text = str(error).split(" '")[0].strip()
    return text if text and "cannot identify" not in text else "it is no image"


def listed(folder: Path) -> Iterator[Path]:
    """The image files of a folder, in the order of their names."""
    return (f for f in sorted(folder.iterdir()) if f.suffix.lower() in SUFFIXES and f.name[0] != ".")
