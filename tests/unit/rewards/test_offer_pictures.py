"""Pictures: whatever is one is shown small and clean; whatever is none, too large or something else too is refused."""

from __future__ import annotations

import gzip
import io
import random
import struct
import zipfile
import zlib
from typing import Any

import pytest
from PIL import Image

from backend.rewards.offers.errors import PictureError, PictureTooLargeError
from backend.rewards.offers.imaging import MAX_BYTES, to_webp

RED, BLUE = (200, 30, 30), (30, 30, 200)


def written(form: str, size: tuple[int, int] = (60, 40), mode: str = "RGB", **options: Any) -> bytes:
    """A picture, left half red and right half blue, in that form."""
    picture = Image.new("RGB", size, RED)
    picture.paste(BLUE, (size[0] // 2, 0, *size))
    file = io.BytesIO()
    picture.convert(mode).save(file, form, **options)
    return file.getvalue()


def shown(raw: bytes) -> Image.Image:
    """What is stored of it."""
    picture = Image.open(io.BytesIO(to_webp(raw)))
    assert picture.format == "WEBP"
    return picture


def is_near(pixel: Any, colour: tuple[int, int, int]) -> bool:
    """Whether the pixel has about that colour."""
    return all(abs(one - other) < 40 for one, other in zip(pixel[:3], colour, strict=True))


@pytest.mark.parametrize(
    ("form", "mode"),
    [
        ("JPEG", "RGB"),
        ("JPEG", "CMYK"),
        ("PNG", "RGB"),
        ("PNG", "RGBA"),
        ("PNG", "P"),
        ("WEBP", "RGB"),
        ("GIF", "P"),
    ],
)
def test_every_form_becomes_webp_of_the_same_colours(form: str, mode: str) -> None:
    picture = shown(written(form, mode=mode)).convert("RGB")
    assert picture.size == (60, 40)
    assert is_near(picture.getpixel((15, 20)), RED)
    assert is_near(picture.getpixel((45, 20)), BLUE)


@pytest.mark.parametrize("mode", ["L", "1", "LA", "I;16"])
def test_grey_pictures_become_webp_too(mode: str) -> None:
    picture = shown(written_grey() if mode == "I;16" else written("PNG", mode=mode))
    assert picture.size == (60, 40)
    if mode == "I;16":
        assert is_near(picture.getpixel((30, 20)), (156, 156, 156))


def written_grey() -> bytes:
    """A picture of 16 bits a pixel."""
    file = io.BytesIO()
    Image.new("I;16", (60, 40), 40_000).save(file, "PNG")
    return file.getvalue()


def test_what_is_transparent_stays_so() -> None:
    file = io.BytesIO()
    Image.new("RGBA", (30, 30), (0, 0, 0, 0)).save(file, "PNG")
    picture = shown(file.getvalue())
    assert picture.mode == "RGBA"
    assert picture.getpixel((15, 15))[3] == 0  # type: ignore[index]


@pytest.mark.parametrize(
    ("size", "expected"),
    [((1_280, 1_280), (1_280, 1_280)), ((2_560, 1_280), (1_280, 640)), ((100, 4_000), (32, 1_280)), ((1, 1), (1, 1))],
)
def test_a_picture_has_at_most_1280_pixels_a_side(size: tuple[int, int], expected: tuple[int, int]) -> None:
    for form in ("JPEG", "PNG"):
        assert shown(written(form, size)).size == expected


def test_a_photograph_is_turned_upright_and_forgets_where_it_was_taken() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    exif[0x010F] = "Spy Camera"
    exif.get_ifd(0x8825)[2] = (32.0, 12.0, 0.0)
    raw = written("JPEG", (600, 400), exif=exif, comment=b"a secret", icc_profile=b"profile" * 20)
    assert b"Spy Camera" in raw
    webp = to_webp(raw)
    picture = Image.open(io.BytesIO(webp))
    assert picture.size == (400, 600)
    # What was left is above.
    assert is_near(picture.getpixel((200, 100)), RED)
    assert is_near(picture.getpixel((200, 500)), BLUE)
    assert dict(picture.getexif()) == {}
    assert not {"exif", "icc_profile", "xmp", "comment"} & set(picture.info)
    for secret in (b"Spy", b"secret", b"profile", b"EXIF", b"ICCP", b"XMP "):
        assert secret not in webp


def test_of_what_moves_the_first_frame_is_shown() -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in (RED, BLUE)]
    for form in ("GIF", "WEBP", "PNG"):
        file = io.BytesIO()
        frames[0].save(file, form, save_all=True, append_images=frames[1:], duration=100)
        picture = shown(file.getvalue())
        assert getattr(picture, "n_frames", 1) == 1
        assert is_near(picture.convert("RGB").getpixel((10, 10)), RED)


def test_the_same_picture_is_the_same_bytes() -> None:
    assert to_webp(written("PNG")) == to_webp(written("PNG"))


def test_what_a_camera_appends_is_left_out() -> None:
    movie = b"\x00\x00\x00\x18ftypmp42" + b"\x00" * 500
    assert to_webp(written("JPEG") + movie) == to_webp(written("JPEG"))


def archive() -> bytes:
    """A ZIP archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        opened.writestr("page.html", "hello")
    return file.getvalue()


NOISE = random.Random(1).randbytes(5_000)
SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
PICTURE = written("PNG")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00",
        NOISE,
        b"hello",
        SVG,
        gzip.compress(SVG, mtime=0),  # the ids of tests must not depend on the second
        b"%PDF-1.7\n%%EOF",
        b"<html><body>hello</body></html>",
        archive(),
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0" + NOISE,
        b"RIFF\x00\x00\x00\x00WEBPVP8 " + NOISE,
        b"GIF89a" + NOISE[:4],
        # Forms that need other programs, or are never sent by a phone.
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        written("BMP"),
        written("TIFF"),
        written("ICO", (16, 16)),
    ],
)
def test_what_is_no_picture_is_refused(raw: bytes) -> None:
    with pytest.raises(PictureError) as refused:
        to_webp(raw)
    assert refused.value.problem.en == "send a whole JPEG, PNG, WebP or GIF"


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_picture_that_is_cut_off_is_refused(form: str) -> None:
    raw = written(form, (300, 300))
    for missing in (len(raw) // 2, len(raw) // 3, len(raw) // 10, 20):
        with pytest.raises(PictureError):
            to_webp(raw[:-missing])


@pytest.mark.parametrize(
    "raw",
    [
        PICTURE + archive(),
        PICTURE + b"<SCRIPT>alert(1)</script>",
        PICTURE + b"<?php echo 1; ?>",
        PICTURE + b"<!DOCTYPE html>",
    ],
)
def test_of_a_picture_that_is_something_else_too_the_picture_is_left(raw: bytes) -> None:
    assert to_webp(raw) == to_webp(PICTURE)


@pytest.mark.parametrize("comment", [b"exported for <HTML gallery", b"%PDF-1.7"])
def test_what_a_comment_says_is_left_out(comment: bytes) -> None:
    assert to_webp(written("JPEG", comment=comment)) == to_webp(written("JPEG"))
    assert to_webp(written("GIF", mode="P", comment=comment)) == to_webp(written("GIF", mode="P"))


@pytest.mark.parametrize("before", [b"<html>", b"%PDF-1.7", b"\n"])
def test_a_picture_begins_with_its_first_byte(before: bytes) -> None:
    with pytest.raises(PictureError):
        to_webp(before + PICTURE)


def bomb(width: int, height: int) -> bytes:
    """A PNG that says it has so many pixels, and hardly has any bytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\x00" * 100_000))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [3_606, 10_000, 30_000, 2_000_000_000])
def test_a_bomb_is_refused_before_it_is_decoded(side: int) -> None:
    with pytest.raises((PictureTooLargeError, PictureError)) as refused:
        to_webp(bomb(side, side))
    if side < 2_000_000_000:
        assert isinstance(refused.value, PictureTooLargeError)
        assert (refused.value.limit, refused.value.unit.en) == (13_000_000, "pixels")


def test_more_bytes_than_allowed_are_refused() -> None:
    with pytest.raises(PictureTooLargeError) as refused:
        to_webp(PICTURE + b"\x00" * (MAX_BYTES + 1 - len(PICTURE)))
    assert (refused.value.limit, refused.value.unit.en) == (5_242_880, "bytes")
    assert to_webp(PICTURE + b"\x00" * (MAX_BYTES - len(PICTURE))) == to_webp(PICTURE)


def test_whatever_is_flipped_in_a_picture_it_is_shown_or_refused() -> None:
    chance = random.Random(7)
    for form in ("JPEG", "PNG", "WEBP", "GIF"):
        raw = written(form, mode="P" if form == "GIF" else "RGB")
        for _ in range(150):
            bent = bytearray(raw)
            for _ in range(chance.randint(1, 8)):
                bent[chance.randrange(len(bent))] = chance.randrange(256)
            try:
                assert max(shown(bytes(bent)).size) <= 1_280
            except (PictureError, PictureTooLargeError):
                continue
