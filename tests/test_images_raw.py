"""Camera raw files: whatever camera they are of, their previews are not taken for photographs."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from commandline import files, runner
from conftest import synthetic_photo
from PIL import Image
from test_images_read import encoded

from irnscale.errors import InputError
from irnscale.images.inspect import describe
from irnscale.images.provenance import read_provenance
from irnscale.images.read import read_header, read_picture

PREVIEW = synthetic_photo(8, 8)


def tiff(
    *directories: dict[int, object], order: str = "<", nested: bool = False, signature: bytes = b"", big: bool = False
) -> bytes:
    """A TIFF whose first picture is a preview that any reader shows; `directories` follow it, or are `nested` in it.

    `signature` comes right behind the header.
    """
    word, field = ("Q", 8) if big else ("I", 4)
    begin = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    begin += struct.pack(order + "HH", 8, 0) if big else b""
    pixels = PREVIEW.tobytes()
    strip = len(begin) + field + len(signature)
    start = strip + len(pixels)
    plain: dict[int, object] = {
        **{256: 8, 257: 8, 258: 8, 259: 1, 262: 2, 273: strip, 277: 3, 278: 8, 279: len(pixels)},
    }
    chain = [plain, *({256: 8, 257: 8, **tags} for tags in directories)]
    if nested:
        plain[330] = 0
    entry = 4 + 2 * field
    sizes = [(8 if big else 2) + len(tags) * entry + field for tags in chain]
    places = [start + sum(sizes[:n]) for n in range(len(chain))]
    if nested:
        plain[330] = places[1]
    data = begin + struct.pack(order + word, start) + signature + pixels
    for n, tags in enumerate(chain):
        data += struct.pack(order + ("Q" if big else "H"), len(tags))
        for tag, value in sorted(tags.items()):
            kind, code = (4, "I") if tag in (273, 279, 330) else (3, "H")
            content = struct.pack(order + code, value)
            data += struct.pack(order + "HH" + word, tag, kind, 1) + content.ljust(field, b"\0")
        following = 0 if nested or n + 1 == len(chain) else places[n + 1]
        data += struct.pack(order + word, following)
    return data


RAW = {
    "CR2 (Canon)": tiff(signature=b"CR\x02\0" + bytes(4)),
    "IIQ (Phase One)": tiff(signature=b"IIIITwaR"),
    "IIQ, other order": tiff(signature=b"MMMMRawT", order=">"),
    "NEF (Nikon)": tiff({259: 34713, 262: 32803}, nested=True),
    "NEF, packed": tiff({259: 32769}, nested=True, order=">"),
    "ARW (Sony)": tiff({259: 32767}, nested=True),
    "ARW, one after the other": tiff({259: 6}, {259: 32767}),
    "PEF (Pentax)": tiff({259: 65535}, order=">"),
    "3FR (Hasselblad)": tiff({259: 1, 262: 32803}, nested=True, order=">"),
    "SRW (Samsung)": tiff({259: 32772}, nested=True),
    "DCR (Kodak)": tiff({259: 65000}, nested=True, order=">"),
    "DNG": tiff({50706: 0x0401}),
    "DNG, linear": tiff({262: 34892}, nested=True),
    "DNG, BigTIFF": tiff({262: 32803}, nested=True, big=True),
    "CR3 (Canon)": struct.pack(">I", 24) + b"ftypcrx " + bytes(12),
    "CRW (Canon)": b"II\x1a\0\0\0HEAPCCDR" + bytes(40),
    "RW2 (Panasonic)": b"IIU\0" + tiff()[4:],
    "ORF (Olympus)": b"IIRO" + tiff()[4:],
    "ORF, older": b"IIRS" + tiff()[4:],
    "ORF, other order": b"MMOR" + tiff(order=">")[4:],
    "RAF (Fujifilm)": b"FUJIFILMCCD-RAW 0201" + bytes(80) + encoded(Image.fromarray(PREVIEW), "JPEG"),
    "MRW (Minolta)": b"\0MRM" + bytes(60),
    "X3F (Sigma)": b"FOVb" + bytes(60),
}


@pytest.mark.parametrize("name", RAW)
def test_every_kind_is_recognised(tmp_path, name):
    path = tmp_path / "photo.tif"
    path.write_bytes(RAW[name])
    for read in (read_picture, read_header, describe):
        with pytest.raises(InputError, match=r"photo\.tif: is a camera raw file \(develop it"):
            read(path)
    with pytest.raises(InputError, match="is a camera raw file"):
        read_picture(RAW[name])
    assert read_provenance(path) is None


@pytest.mark.parametrize("name", ["CR2 (Canon)", "NEF (Nikon)", "DNG, linear"])
def test_their_previews_would_pass_for_pictures(name):
    """What makes the trap: without a look at what else is in the file, all is well."""
    with Image.open(io.BytesIO(RAW[name])) as image:
        assert image.size == (8, 8)


@pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True)])
@pytest.mark.parametrize("directories", [(), ({259: 7, 254: 1},), ({259: 32773},), ({271: 1, 50708: 1},)])
def test_other_tiffs_are_none(order, big, directories):
    whole = tiff(*directories, order=order, nested=len(directories) == 1, big=big)
    picture = read_picture(whole, frames="first")
    np.testing.assert_array_equal(picture.pixels, PREVIEW)


def test_offsets_that_lead_nowhere():
    whole = bytearray(tiff(nested=False))
    whole[-4:] = struct.pack("<I", struct.unpack_from("<I", whole, 4)[0])  # a ring
    np.testing.assert_array_equal(read_picture(bytes(whole), frames="first").pixels, PREVIEW)
    whole[-4:] = b"\xff\xff\xff\xff"
    np.testing.assert_array_equal(read_picture(bytes(whole)).pixels, PREVIEW)
    with pytest.raises(InputError, match="damaged"):
        read_picture(b"II+\0\x08\0\0\0" + b"\xff" * 8 + bytes(40))


def test_a_raw_file_beside_pictures(capfdbinary, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("a.tif").write_bytes(RAW["CR2 (Canon)"])
    Path("b.tif").write_bytes(tiff())
    result = runner(capfdbinary, monkeypatch)("down", "a.tif", "b.tif", "-s", 2)
    assert result.code == 1
    assert [line for line in result.lines if "error" in line] == [
        "irnscale: error: a.tif: is a camera raw file (develop it to TIFF or PNG first)"
    ]
    assert files(tmp_path) == ["a.tif", "b.tif", "b_down2x.png"]
