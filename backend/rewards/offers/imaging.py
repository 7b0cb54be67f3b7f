"""Turns whatever somebody uploads into a picture that is safe and small to show: decoded, turned, shrunk, re-encoded.

What is stored is made of pixels alone: no metadata, no place where a photograph was taken, nothing appended. Runs for
up to a second of processor time, so in a thread.
"""

from __future__ import annotations

import io
import re

from PIL import Image, ImageOps

from backend.kernel.errors import Text
from backend.rewards.offers.errors import PictureError, PictureTooLargeError

MAX_BYTES = 5 * 2**20
MAX_PIXELS = 25_000_000
MAX_SIDE = 1_280
QUALITY = 82
FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
BYTES = Text("字节", "bytes")
PIXELS = Text("像素", "pixels")
UNREADABLE = Text("无法识别，请使用完整的 JPEG、PNG、WebP 或 GIF", "send a whole JPEG, PNG, WebP or GIF")
TWO_FACED = Text("其中还藏有别的文件", "there is another kind of file in it")
# What browsers, servers and unpackers would run or open although the file begins as a picture does.
SCRIPTS = re.compile(rb"<script|<\?php|<html|<!doctype html", re.IGNORECASE)
PDF, PDF_WITHIN = b"%PDF-", 1_024
ZIP_END, ZIP_END_BYTES, ZIP_COMMENT_AT = b"PK\x05\x06", 22, 20


def to_webp(raw: bytes) -> bytes:
    """The picture as WebP of at most 1,280 pixels a side, the first frame of what moves.

    Raises:
        PictureError: it is none, cut off, or something else as well.
        PictureTooLargeError: more than 5 MB or 25 million pixels.
    """
    if len(raw) > MAX_BYTES:
        raise PictureTooLargeError(MAX_BYTES, BYTES)
    if _is_two_faced(raw):
        raise PictureError(TWO_FACED)
    try:
        return _encode(_decode(raw))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureTooLargeError(MAX_PIXELS, PIXELS) from error
    except PictureTooLargeError:
        raise
    except Exception as error:
        raise PictureError(UNREADABLE) from error


def _is_two_faced(raw: bytes) -> bool:
    """Whether the bytes are also a page, a script, a PDF or an archive; what cameras append is none of these."""
    end = raw.rfind(ZIP_END)
    is_zip = end >= 0 and len(raw) - end >= ZIP_END_BYTES
    if is_zip:
        comment = int.from_bytes(raw[end + ZIP_COMMENT_AT : end + ZIP_END_BYTES], "little")
        is_zip = end + ZIP_END_BYTES + comment == len(raw)
    return is_zip or PDF in raw[:PDF_WITHIN] or SCRIPTS.search(raw) is not None


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
        return turned.convert("RGBA" if turned.has_transparency_data else "RGB")


def _encode(image: Image.Image) -> bytes:
    image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    # A fresh picture has no metadata that an encoder could carry over.
    clean = Image.new(image.mode, image.size)
    clean.paste(image)
    written = io.BytesIO()
    clean.save(written, "WEBP", quality=QUALITY, method=4)
    return written.getvalue()
