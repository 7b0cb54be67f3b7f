"""Turns whatever somebody uploads into a picture that is safe and small to show: decoded, turned, shrunk, re-encoded.

What is stored is made of pixels alone: no metadata, no place where a photograph was taken, nothing appended. Runs for
up to a second of processor time, so in a thread.
"""

from __future__ import annotations

import io

from PIL import Image, ImageOps

from backend.kernel.errors import Text
from backend.rewards.offers.errors import PictureError, PictureTooLargeError

MAX_BYTES = 5 * 2**20
# What a telephone takes (4,032 × 3,024), and a little more.
MAX_PIXELS = 13_000_000
MAX_SIDE = 1_280
QUALITY = 82
FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
BYTES = Text("字节", "bytes")
PIXELS = Text("像素", "pixels")
UNREADABLE = Text("无法识别，请使用完整的 JPEG、PNG、WebP 或 GIF", "send a whole JPEG, PNG, WebP or GIF")


def to_webp(raw: bytes) -> bytes:
    """The picture as WebP of at most 1,280 pixels a side, the first frame of what moves.

    Raises:
        PictureError: it is none, or cut off.
        PictureTooLargeError: more than 5 MB or 13 million pixels.
    """
    if len(raw) > MAX_BYTES:
        raise PictureTooLargeError(MAX_BYTES, BYTES)
    try:
        return _encode(_decode(raw))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureTooLargeError(MAX_PIXELS, PIXELS) from error
    except PictureTooLargeError:
        raise
    except Exception as error:
        raise PictureError(UNREADABLE) from error


def _decode(raw: bytes) -> Image.Image:
    with Image.open(io.BytesIO(raw), formats=FORMATS) as opened:
        # Known from the header; nothing is decoded yet.
        if opened.width * opened.height > MAX_PIXELS:
            raise PictureTooLargeError(MAX_PIXELS, PIXELS)
        # Whether a PNG goes on to its end; after that it is to be opened again.
        opened.verify()
    with Image.open(io.BytesIO(raw), formats=FORMATS) as opened:
        # A large photograph is decoded at a half, a quarter or an eighth of its size.
        opened.draft("RGB", (MAX_SIDE, MAX_SIDE))
        opened.load()
        turned = ImageOps.exif_transpose(opened)
        if turned.mode.startswith("I"):
            # Sixteen bits of grey, which would be cut off at 255.
            turned = turned.point(lambda value: value / 256)
        return turned.convert("RGBA" if turned.has_transparency_data else "RGB")


def _encode(image: Image.Image) -> bytes:
    image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    # A fresh picture has no metadata that an encoder could carry over.
    clean = Image.new(image.mode, image.size)
    clean.paste(image)
    written = io.BytesIO()
    clean.save(written, "WEBP", quality=QUALITY, method=4)
    return written.getvalue()
