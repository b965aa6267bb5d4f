"""PNG with something damaged beside its pixels."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from commandline import runner
from conftest import synthetic_photo
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from irnscale.errors import InputError
from irnscale.images.png_mending import mended
from irnscale.images.profiles import cicp_colours, profile
from irnscale.images.read import read_header, read_picture

PIXELS = synthetic_photo(16, 12)
P3 = profile(cicp_colours(12, 13))[0]


def chunk(kind: bytes, content: bytes, crc: int | None = None) -> bytes:
    crc = zlib.crc32(kind + content) if crc is None else crc
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)


def plain() -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "PNG")
    return file.getvalue()


def png(*before: bytes, behind: bytes = b"") -> bytes:
    data = plain()
    return data[:33] + b"".join(before) + data[33:-12] + behind + data[-12:]


DAMAGED = {
    "iCCP crc": (chunk(b"iCCP", b"x\0\0" + zlib.compress(P3), 1), "iCCP"),
    "iCCP empty": (chunk(b"iCCP", b""), "iCCP"),
    "iCCP no zero": (chunk(b"iCCP", b"name"), "iCCP"),
    "iCCP method": (chunk(b"iCCP", b"x\0\1" + zlib.compress(P3)), "iCCP"),
    "gAMA short": (chunk(b"gAMA", b"\0\0"), "gAMA"),
    "cHRM long": (chunk(b"cHRM", bytes(40)), "cHRM"),
    "pHYs short": (chunk(b"pHYs", bytes(4)), "pHYs"),
    "sRGB empty": (chunk(b"sRGB", b""), "sRGB"),
    "tEXt crc": (chunk(b"tEXt", b"Title\0a", 2), "tEXt"),
    "zTXt crc": (chunk(b"zTXt", b"Title\0\0" + zlib.compress(b"a"), 5), "zTXt"),
    "eXIf crc": (chunk(b"eXIf", b"II*\0\x08\0\0\0\0\0", 3), "eXIf"),
    "private crc": (chunk(b"prIv", b"abc", 4), "prIv"),
}


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize("behind", [False, True])
def test_the_picture_is_read_and_the_loss_told(name, behind):
    part, kind = DAMAGED[name]
    data = png(behind=part) if behind else png(part)
    picture = read_picture(data, "a.png")
    np.testing.assert_array_equal(picture.pixels, PIXELS)
    assert picture.icc is None
    assert [note for note in picture.notes if kind in note] == [f"what it says in {kind} is damaged and was dropped"]
    assert (read_header(data).width, read_header(data).height) == (12, 16)


def test_what_is_whole_is_kept_beside_it():
    data = png(chunk(b"gAMA", b""), chunk(b"iCCP", b"x\0\0" + zlib.compress(P3)), behind=chunk(b"tEXt", b"", 9))
    picture = read_picture(data)
    assert picture.icc == P3
    assert picture.notes == ("what it says in gAMA and tEXt is damaged and was dropped",)


@pytest.mark.parametrize("damage", ["IHDR", "IDAT"])
def test_damaged_pixels_are_damaged(damage):
    data = bytearray(png(chunk(b"gAMA", b"")))
    at = data.index(damage.encode()) + 6
    data[at] ^= 0x55
    with pytest.raises(InputError, match=r"damaged|truncated"):
        read_picture(bytes(data), "a.png")


@pytest.mark.parametrize("from_", [0.3, 0.6, 0.9])
def test_zeros_in_the_place_of_pixels_are_damage(from_):
    """As downloads leave them that were never finished: Pillow makes something of them."""
    data = png()
    start = int(len(data) * from_)
    with pytest.raises(InputError, match=r"damaged: the checksum of IDAT is wrong|truncated"):
        read_picture(data[:start] + bytes(len(data) - start), "a.png")


def test_on_the_command_line(tmp_path, capfdbinary, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(png(DAMAGED["iCCP crc"][0]))
    run = runner(capfdbinary, monkeypatch)
    assert run("info", "a.png").code == 0
    result = run("down", "a.png", "-s", 2, "-o", "small.png")
    assert result.code == 0
    assert ["iCCP" in line and "a.png" in line for line in result.lines] == [True]


@given(st.binary(max_size=200), st.integers(0, 60))
def test_nothing_is_lost_of_what_is_not_damaged(junk, place):
    data = plain()
    assert mended(data) == (data, ())
    broken = data[: 33 + place] + junk
    assert mended(broken)[0].startswith(data[:33]), "whatever follows, the header stays"
    assert mended(junk) == (junk, ()) or junk.startswith(b"\x89PNG")
