"""Pixels: a grid of numbers as a small PNG image, for grids with too many cells for one shape each."""

import struct
import zlib
from base64 import b64encode

import numpy as np

from workbench.views.colours import colour_of
from workbench.views.panels import Bounds

_LEVELS = 255
"""Colours of the palette; entry 0 is transparent and stands for NaN."""


def png_address(values: np.ndarray, bounds: Bounds, diverging: bool) -> str:
    """The `data:` address of an image with one pixel per cell, the first row on top."""
    low, high = bounds
    place = np.clip((np.nan_to_num(values) - low) / (high - low), 0, 1)
    levels = np.where(np.isnan(values), 0, 1 + np.round(place * (_LEVELS - 1))).astype(np.uint8)
    shades = [colour_of(level / (_LEVELS - 1), (0.0, 1.0), diverging) for level in range(_LEVELS)]
    palette = bytes(3) + b"".join(bytes.fromhex(shade[1:]) for shade in shades)
    height, width = levels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    # each row of a PNG begins with the number of its filter, 0 for none
    rows = b"".join(b"\0" + row.tobytes() for row in levels)
    chunks = [
        (b"IHDR", header),
        (b"PLTE", palette),
        (b"tRNS", b"\0"),
        (b"IDAT", zlib.compress(rows, 9)),
        (b"IEND", b""),
    ]
    image = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)
    return "data:image/png;base64," + b64encode(image).decode()


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
