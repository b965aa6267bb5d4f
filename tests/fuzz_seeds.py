"""Small files of every format that is read, and ways to damage them."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable
from functools import cache

import numpy as np
from conftest import synthetic_photo
from PIL import Image, ImageCms, PngImagePlugin, features
from test_images_clap import with_clap
from test_images_embedded import EXIF_UUIDS, GIF_XMP, IPTC_UUIDS, TRAILER, XMP_UUID, psd, with_gif_extension, with_uuids
from test_images_extended_xmp import STANDARD, linked, parts
from test_images_iptc import KEPT, app13
from test_images_maker_notes import block, tiff_with_note
from test_images_read import encoded
from tiff_files import Entry, gray_tiff
from xmp_packets import app1, packet, wrapped

from irnscale.images.cicp import with_cicp
from irnscale.images.iptc import photoshop_segments
from irnscale.images.record import Provenance
from irnscale.images.xmp import xmp_with_record

SIDE = 12

RECORD = Provenance(
    kind="down",
    version="0",
    model="irn-x2",
    digest="0" * 12,
    scale=2,
    width=2 * SIDE,
    height=2 * SIDE,
    lr_width=SIDE,
    lr_height=SIDE,
    padding=(0, 0),
    jpeg_resistant=False,
    original_format="png",
    source_digest="0" * 64,
    settings_digest="0" * 16,
    crc=0,
    opaque_alpha=False,
    gray=False,
).to_json()


def _image(mode: str = "RGB") -> Image.Image:
    image = Image.fromarray(synthetic_photo(SIDE, SIDE))
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    if mode.endswith("A"):
        image.putalpha(Image.fromarray(np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE)))
    return image.convert(mode)


def _saved(format: str, mode: str = "RGB", **options) -> bytes:
    file = io.BytesIO()
    _image(mode).save(file, format, **options)
    return file.getvalue()


def _interlaced_png(depth: int = 8) -> bytes:
    """Pillow writes none: the seven passes of Adam7, each with its rows unfiltered."""
    pixels = np.asarray(_image())
    if depth == 16:
        pixels = (pixels.astype(np.uint16) * 257).astype(">u2")
    passes = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1))
    rows = b"".join(b"\0" + row.tobytes() for y, dy, x, dx in passes for row in pixels[y::dy, x::dx])

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", SIDE, SIDE, depth, 2, 0, 0, 1)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _of_metadata() -> dict[str, Callable[[], bytes]]:
    """What is read from the files' own bytes."""
    long = packet("<photoshop:History>" + "abc " * 60 + "</photoshop:History>")
    extended = app1(STANDARD + linked(long, "").encode()) + b"".join(parts(long, 300))
    resources = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(KEPT)) + KEPT
    padded = KEPT + bytes(-len(KEPT) % 4)
    wide = wrapped(packet(attributes=' tiff:Orientation="6"')).encode("utf-16")
    return {
        "jpg-extended-xmp": lambda: _saved("JPEG", extra=extended),
        "jpg-xmp-utf16": lambda: _saved("JPEG", xmp=wide),
        "jpg-iptc-split": lambda: _saved("JPEG", extra=app13(resources[:20]) + app13(resources[20:])),
        "jpg-maker-note": lambda: _saved("JPEG", exif=b"Exif\0\0" + block("<", orientation=6)),
        "png-maker-note": lambda: _saved("PNG", exif=block(">")),
        "tiff-maker-note": lambda: tiff_with_note("<", None, 0),
        "tiff-maker-note-far": lambda: tiff_with_note(">", None, 66_000),
        "tiff-iptc-long": lambda: gray_tiff(">", [Entry(33723, 4, padded)], side=SIDE),
        "tiff-photoshop": lambda: gray_tiff("<", [Entry(34377, 4, resources + bytes(-len(resources) % 4))], side=SIDE),
        "bigtiff-iptc-long": lambda: gray_tiff("<", [Entry(33723, 4, padded)], big=True, side=SIDE),
        "psd": lambda: psd((1058, block(">")), (1028, KEPT), (1060, packet().encode()), side=SIDE),
        "gif-xmp": lambda: with_gif_extension(_saved("GIF", "P"), GIF_XMP + packet().encode() + TRAILER),
        "png-cicp": lambda: with_cicp(_saved("PNG"), (9, 16)),
    }


@cache
def seeds() -> dict[str, bytes]:
    """Name -> a sound file. What this Pillow or an absent package cannot write is left out."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Camera"
    info = PngImagePlugin.PngInfo()
    info.add_itxt("irnscale", RECORD)
    xmp = xmp_with_record(None, RECORD)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    frames = [_image("P"), _image("P").rotate(90)]
    made: dict[str, Callable[[], bytes]] = {
        "png": lambda: _saved("PNG", icc_profile=profile, exif=exif),
        "png-record": lambda: _saved("PNG", pnginfo=info),
        "png-palette": lambda: _saved("PNG", "P", transparency=3),
        "png-gray-alpha": lambda: _saved("PNG", "LA"),
        "png-16": lambda: _saved("PNG", "I;16"),
        "png-1": lambda: _saved("PNG", "1"),
        "png-interlaced": _interlaced_png,
        "jpg": lambda: _saved("JPEG", exif=exif, icc_profile=profile, xmp=xmp),
        "jpg-progressive": lambda: _saved("JPEG", progressive=True, subsampling="4:4:4"),
        "jpg-iptc": lambda: _saved("JPEG", extra=photoshop_segments(b"\x1c\x02\x78\x00\x03sea")),
        "jpg-gray": lambda: _saved("JPEG", "L"),
        "jpg-cmyk": lambda: _saved("JPEG", "CMYK"),
        "mpo": lambda: _saved("MPO", save_all=True, append_images=[_image()]),
        "webp": lambda: _saved("WEBP", exif=exif, xmp=xmp),
        "webp-lossless-alpha": lambda: _saved("WEBP", "RGBA", lossless=True),
        "tiff": lambda: _saved("TIFF", exif=exif),
        "tiff-lzw": lambda: _saved("TIFF", compression="tiff_lzw"),
        "tiff-deflate-alpha": lambda: _saved("TIFF", "RGBA", compression="tiff_adobe_deflate"),
        "tiff-16": lambda: _saved("TIFF", "I;16"),
        "tiff-lab": lambda: _saved("TIFF", "LAB"),
        "tiff-float": lambda: _saved("TIFF", "F"),
        "tiff-pages": lambda: _saved("TIFF", save_all=True, append_images=[_image()]),
        "gif": lambda: _saved("GIF", "P"),
        "gif-animated": lambda: _saved("GIF", "P", save_all=True, append_images=frames),
        "bmp": lambda: _saved("BMP"),
        "ppm": lambda: _saved("PPM"),
        "ppm-16": lambda: b"P6 12 12 1023\n" + (np.asarray(_image()).astype(np.uint16) * 4).astype(">u2").tobytes(),
        "sgi-16": lambda: _saved("SGI", bpc=2),
        "tga": lambda: _saved("TGA", compression="tga_rle"),
    }
    made |= _of_metadata()
    if features.check("jpg_2000"):
        made["jp2"] = lambda: _saved("JPEG2000")
        uuids = (EXIF_UUIDS[0] + block(">"), IPTC_UUIDS[0] + KEPT, XMP_UUID + packet().encode())
        made["jp2-uuids"] = lambda: with_uuids(_saved("JPEG2000"), *uuids)
    if features.check("avif"):
        made["avif"] = lambda: _saved("AVIF", exif=exif, xmp=xmp)
        made["avif-maker-note"] = lambda: _saved("AVIF", exif=block("<"))
        made["avif-nclx"] = lambda: with_cicp(_saved("AVIF"), (9, 16))
        whole = Image.fromarray(synthetic_photo(SIDE + 4, SIDE + 4))
        made["avif-clap"] = lambda: with_clap(encoded(whole, "AVIF"), SIDE, 1, SIDE, 1, 0, 1, 0, 1)
    found = {name: make() for name, make in made.items()}
    try:
        import imagecodecs
        import tifffile
    except ImportError:
        pass
    else:
        deep = np.asarray(_image()).astype(np.uint16) * 257
        found["png-rgb16"] = imagecodecs.png_encode(deep)
        found["png-rgb16-interlaced"] = _interlaced_png(16)
        found["jp2-12"] = imagecodecs.jpeg2k_encode(deep >> 4, level=0, reversible=True, bitspersample=12)
        found["avif-10"] = imagecodecs.avif_encode(deep >> 6, level=90, bitspersample=10)
        found["jxl"] = imagecodecs.jpegxl_encode(np.asarray(_image()), lossless=True)
        container = imagecodecs.jpegxl_encode(np.asarray(_image()), lossless=True, usecontainer=True)
        packed = imagecodecs.brotli_encode(packet().encode())
        found["jxl-packed-xmp"] = container + struct.pack(">I4s4s", len(packed) + 12, b"brob", b"xml ") + packed
        for kind in ("int8", "int16", "uint32"):
            file = io.BytesIO()
            tifffile.imwrite(file, deep[..., 0].astype(kind), photometric="minisblack", compression="deflate")
            found[f"tiff-{kind}"] = file.getvalue()
        file = io.BytesIO()
        tifffile.imwrite(file, deep, photometric="rgb", compression="deflate", predictor=True, tile=(16, 16))
        found["tiff-rgb16-tiled"] = file.getvalue()
        file = io.BytesIO()
        tifffile.imwrite(file, np.moveaxis(deep, 2, 0).copy(), photometric="rgb", planarconfig="separate")
        found["tiff-rgb16-planar"] = file.getvalue()
    try:
        import pillow_heif
    except ImportError:
        pass
    else:
        heif = io.BytesIO()
        pillow_heif.from_pillow(_image()).save(heif)
        found["heic"] = heif.getvalue()
    return found


def damaged(name: str, number: int) -> bytes:
    """The `number`-th mutation of a seed: one to four of flips, cuts, splices and extreme numbers."""
    rng = random.Random(f"{name} {number}")
    data = bytearray(seeds()[name])
    for _ in range(rng.choice((1, 1, 2, 4))):
        # half of all damage goes to the header, where it does most
        reach = len(data) if rng.random() < 0.5 else min(len(data), 160)
        at = rng.randrange(max(1, reach))
        kind = rng.randrange(6)
        if kind == 0 and data:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at : at + 1] = rng.randbytes(1)
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            del data[at : at + rng.randrange(1, 40)]
        elif kind == 4:
            other = seeds()[rng.choice(sorted(seeds()))]
            start = rng.randrange(len(other))
            data[at:at] = other[start : start + rng.randrange(1, 200)]
        else:
            extreme = rng.choice((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\xff\xff", b"\0\0\0\1"))
            data[at : at + len(extreme)] = extreme if rng.random() < 0.5 else extreme[::-1]
    return bytes(data)
