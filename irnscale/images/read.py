"""Files to pictures: any format Pillow decodes, upright, with its metadata, or one line of what is wrong."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from PIL import Image

from irnscale.errors import InputError
from irnscale.images.clap import clean_aperture
from irnscale.images.exif import ORIENTATION
from irnscale.images.exif_colours import exif_profile
from irnscale.images.jpegxl import JpegXlFile, jpegxl_arrays
from irnscale.images.metadata import read_exif, read_iptc, read_xmp
from irnscale.images.modes import Arrays, arrays_of, cropped, decode
from irnscale.images.opening import failures_as_input_errors, open_source, read_bytes, source_name
from irnscale.images.optional_decoders import IO, deep_picture, deep_png, deep_tiff, has_io
from irnscale.images.orientation import turn_upright, turned_size
from irnscale.images.picture import Picture
from irnscale.images.png_mending import mended
from irnscale.images.provenance import find_record
from irnscale.images.resolution import stored_resolution, turned_exif
from irnscale.images.samples import deep_samples, header_bits, shown
from irnscale.images.segments import attachment
from irnscale.images.signals import Signalled, colours_of, full_range
from irnscale.images.stored import stored_xmp
from irnscale.images.texts import stored_texts_of
from irnscale.images.tiff_directories import count_pages
from irnscale.images.xmp import xmp_orientation

if TYPE_CHECKING:
    from pathlib import Path

    from irnscale.images.record import Provenance

MAX_PIXELS = 10**9
HEAD = 1 << 16
"""Bytes at the beginning of a file in which `bits_per_channel` looks."""
_CODESTREAM = b"\xff\x4f\xff\x51"
# Deflate and GIF's LZW reach 1000 and 2700 to one; only blank pages of one bit per pixel pack denser.
_SURELY_HARMLESS, _PIXELS_PER_BYTE = 5 * 10**7, 3000
_CAMERAS = {"JPEG", "MPO", "TIFF", "HEIF"}  # whose EXIF may say Adobe RGB
_FORMAT_NAMES = {"JPEG": "jpg", "MPO": "jpg"}
# More than one frame, but the first is the whole picture: a phone's second view, layers, icon sizes.
_NO_XMP_ORIENTATION = {"TIFF", "HEIF"}  # Pillow has been told of a TIFF's, and HEIC is decoded upright
_FIRST_IS_ALL = {"MPO", "PSD", "ICO", "ICNS", "CUR"}
_IMAGE_WIDTH, _IMAGE_LENGTH, _STRIP_OFFSETS, _SAMPLES, _ROWS_PER_STRIP = 256, 257, 273, 277, 278
_PLANAR, _SEPARATE, _TILE_OFFSETS = 284, 2, 324
_NEW_SUBFILE_TYPE, _BITS_PER_SAMPLE = 254, 258


def read_picture(
    source: Path | bytes, name: str | None = None, *, max_pixels: int | None = None, frames: str = "error"
) -> Picture:
    """Read a picture, turned upright. `name` is what messages call it (default: its path).

    `frames` is "error" (refuse animations) or "first". Raises InputError, one line with a remedy, for
    whatever cannot be read, is no picture, is damaged, or has more than `max_pixels` pixels. Without
    `max_pixels` the limit is MAX_PIXELS, and a file whose few bytes claim a huge picture is refused too.
    """
    if frames not in ("error", "first"):
        raise ValueError(f"frames must be 'error' or 'first', not {frames!r}")
    label = source_name(source, name)
    data = source if isinstance(source, bytes) else read_bytes(source, label)
    digest = hashlib.sha256(data).hexdigest()
    with failures_as_input_errors(label):
        data, dropped = mended(data)
    with open_source(data, label) as image:
        _check_size(image, label, max_pixels, _length(source))
        notes = _check_frames(image, label, frames)
        if dropped:
            notes.append(f"what it says in {' and '.join(dropped)} is damaged and was dropped")
        refuse_raw(image, label)
        _check_strips(image, label)
        aperture = clean_aperture(image, data, label)
        record, record_note = find_record(image)
        xmp, xmp_notes = read_xmp(image)
        iptc, iptc_note = read_iptc(image)
        texts, texts_note = stored_texts_of(image, data)
        if image.format == "PNG":
            image.load()  # EXIF may stand behind the pixels; Pillow then closes the file
            _fit_transparency(image, data[24])
        orientation = stored_orientation(image)
        exif, exif_note = read_exif(image)
        resolution = stored_resolution(image, data, exif)
        if orientation >= 5:
            resolution, exif = resolution and resolution.turned, turned_exif(exif)
        bits = bits_per_channel(image, data[:HEAD])
        deep = _decode_deep(image, data, bits, label)
        arrays = decode(shown(image, data), label) if deep is None else deep
        if aperture:
            arrays = cropped(arrays, aperture)
        colours = Signalled(arrays.icc)
        if isinstance(image, JpegXlFile):
            colours = Signalled(arrays.icc, image.hdr)
        elif image.mode not in ("CMYK", "LAB"):  # which are converted
            colours = colours_of(image, data, arrays.icc, gray=arrays.gray)
            if image.format in _CAMERAS and colours == Signalled():
                colours = Signalled(exif_profile(exif, gray=arrays.gray))
        if colours.narrow:
            arrays = replace(arrays, pixels=full_range(arrays.pixels))
        if arrays.alpha is not None and not arrays.alpha.any():
            notes.append("it is transparent everywhere: none of its colours is kept")
        if arrays.depth < bits <= 16:
            remedy = "" if has_io() else f" ({IO} for all of them)"
            notes.append(f"{bits} bits per channel read at {arrays.depth} bits{remedy}")
        # Pillow has turned a TIFF while decoding, and JPEG XL is decoded upright
        left = 1 if image.format == "JXL" or (image.format == "TIFF" and deep is None) else orientation
        alpha = None if arrays.alpha is None else turn_upright(arrays.alpha, left)
        return Picture(
            pixels=turn_upright(arrays.pixels, left),
            alpha=alpha,
            gray=arrays.gray,
            opaque_alpha=arrays.opaque_alpha,
            depth=arrays.depth,
            icc=colours.icc,
            cicp=colours.cicp,
            exif=exif,
            xmp=xmp,
            iptc=iptc,
            format=format_name(image),
            source_digest=digest,
            notes=(
                *notes,
                *arrays.notes,
                *colours.notes,
                *xmp_notes,
                *(n for n in (exif_note, iptc_note, texts_note, record_note) if n),
            ),
            record=record,
            attachment=attachment(data) if record is None or record.kind == "down" else None,
            stored_depth=max(bits, arrays.depth),
            resolution=resolution,
            texts=texts,
            orientation=orientation,
        )


@dataclass(frozen=True)
class Header:
    """What is known of a picture without decoding its pixels; fields as in `Picture`."""

    width: int  # upright
    height: int
    format: str
    record: Provenance | None
    orientation: int = 1

    @property
    def stored_size(self) -> tuple[int, int]:
        """(width, height) before it is turned upright."""
        return turned_size((self.width, self.height), self.orientation)


def read_header(
    source: Path | bytes, name: str | None = None, *, max_pixels: int | None = None, frames: str = "error"
) -> Header:
    """The header of a picture. Raises InputError as `read_picture` does, except for damaged pixels."""
    label = source_name(source, name)
    with open_source(source, label) as image:
        _check_size(image, label, max_pixels, _length(source))
        _check_frames(image, label, frames)
        refuse_raw(image, label)
        _check_strips(image, label)
        orientation = stored_orientation(image)
        size = upright_size(image, source, label, orientation)
        return Header(*size, format_name(image), find_record(image)[0], orientation)


def format_name(image: Image.Image) -> str:
    """png, jpg, webp, tiff, or what else Pillow calls it in lower case."""
    pillow = image.format or "unknown"
    return _FORMAT_NAMES.get(pillow, pillow.lower())


def stored_orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8, or XMP's where EXIF says nothing; 1 where neither makes sense."""
    if isinstance(image, JpegXlFile):
        return image.orientation  # its codestream has an orientation of its own, which is the only one that counts
    try:
        # Pillow's PNG class would decode the whole picture in search of an EXIF block.
        exif = Image.Image.getexif(image) if image.format == "PNG" else image.getexif()
        value = exif.get(ORIENTATION)
    except (ValueError, SyntaxError, OSError, LookupError, TypeError):
        return 1  # a damaged block is reported where it is read
    if value is None and image.format not in _NO_XMP_ORIENTATION and (packet := stored_xmp(image)):
        value = xmp_orientation(packet)  # Pillow looks for it in UTF-8, under its usual prefix
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def upright_size(image: Image.Image, source: Path | bytes, name: str, orientation: int) -> tuple[int, int]:
    """(width, height) of what is shown of an opened picture, upright. Raises InputError as `clean_aperture` does."""
    left, top, right, bottom = clean_aperture(image, source, name) or (0, 0, *image.size)
    size = (right - left, bottom - top)
    return size if image.format in ("TIFF", "JXL") else turned_size(size, orientation)  # which are upright already


def _tiff_pages(image: Image.Image) -> tuple[int, int] | None:
    """`count_pages` of an opened TIFF, whose decoder goes on where it was; None for others, and behind the pixels."""
    file = getattr(image, "fp", None)
    if image.format != "TIFF" or file is None:
        return None
    position = file.tell()
    try:
        return count_pages(file)
    finally:
        file.seek(position)


def frame_count(image: Image.Image) -> int:
    """Frames or pages; 1 for formats that have only one. A TIFF's smaller versions and masks of a page are none."""
    pages = _tiff_pages(image)
    return pages[0] if pages is not None else int(getattr(image, "n_frames", 1))


def bits_per_channel(image: Image.Image, head: bytes) -> int:
    """As stored in the file, whose first HEAD bytes are `head`; at least 8."""
    if image.format == "PNG" and len(head) > 24:
        return max(8, head[24])
    if image.format == "JPEG2000" and 0 <= (start := head.find(_CODESTREAM)) < len(head) - 42:
        return max(8, (head[start + 42] & 0x7F) + 1)
    if image.format == "AVIF" and 0 <= (start := head.find(b"av1C")) < len(head) - 6:
        deep, deeper = head[start + 6] & 0x40, head[start + 6] & 0x20
        return (12 if deeper else 10) if deep else 8
    if image.format == "HEIF":
        return max(8, int(image.info.get("bit_depth", 8)))
    if image.format == "TIFF":
        bits = cast("Any", image).tag_v2.get(_BITS_PER_SAMPLE, (8,))
        return max(8, *(int(b) for b in (bits if isinstance(bits, tuple) else (bits,))))
    if (bits := header_bits(image.format, head)) is not None:
        return bits
    if image.mode.startswith("I;16"):
        return 16
    return {"I": 32, "F": 32}.get(image.mode, 8)


def _length(source: Path | bytes) -> int:
    return len(source) if isinstance(source, bytes) else source.stat().st_size


def _check_size(image: Image.Image, name: str, max_pixels: int | None, length: int) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise InputError(f"{name}: has no pixels ({width}x{height})", "copy or download it again")
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    if width * height > limit:
        raise InputError(
            f"{name}: {width}x{height} is more than the limit of {limit} pixels",
            "raise it with `max_pixels` if you trust the file",
            parameters=("max_pixels",),
            otherwise="make it smaller, or take a part of it",
        )
    if max_pixels is None and width * height > max(_SURELY_HARMLESS, _PIXELS_PER_BYTE * length):
        raise InputError(
            f"{name}: claims {width}x{height} pixels in {length} bytes, as a decompression bomb does",
            f"give max_pixels={width * height} if you trust the file",
            parameters=("max_pixels",),
            otherwise="if you trust it, save it anew, as an uncompressed TIFF",
        )


def _check_frames(image: Image.Image, name: str, frames: str) -> list[str]:
    count = frame_count(image)
    if count <= 1:
        return ["a page that masks it is dropped"] if (_tiff_pages(image) or (1, 0))[1] else []
    if image.format == "MPO":
        return [f"MPO: only the primary picture is kept, {count - 1} more dropped (second view or gain map)"]
    if image.format in _FIRST_IS_ALL:
        return []
    if frames == "error":
        raise InputError(
            f"{name}: has {count} frames or pages",
            "add frames=first to take the first one",
            parameters=("frames",),
            otherwise="save the one that is meant as a file of its own",
        )
    image.seek(0)
    return [f"only the first of {count} frames or pages is taken"]


def refuse_raw(image: Image.Image, name: str) -> None:
    """A TIFF whose first picture is a reduced one is a raw file too, if of an unknown camera: the trap is silent."""
    if image.format != "TIFF":
        return
    tags = cast("Any", image).tag_v2
    if tags.get(_NEW_SUBFILE_TYPE) == 1:
        raise InputError(f"{name}: is a camera raw file", "develop it to TIFF or PNG first")


def _check_strips(image: Image.Image, name: str) -> None:
    """Refuse a TIFF that lacks strips or tiles; Pillow would leave black what they should cover."""
    if image.format != "TIFF":
        return
    tags = cast("Any", image).tag_v2
    width, height = (tags.get(tag) or 0 for tag in (_IMAGE_WIDTH, _IMAGE_LENGTH))
    planes = tags.get(_SAMPLES, 1) if tags.get(_PLANAR) == _SEPARATE else 1
    if offsets := tags.get(_TILE_OFFSETS):
        across, down = (-(-side // max(1, tags.get(tag) or 1)) for side, tag in ((width, 322), (height, 323)))
        needed = across * down * planes
    else:
        offsets = tags.get(_STRIP_OFFSETS) or ()
        needed = -(-height // max(1, min(tags.get(_ROWS_PER_STRIP) or height, height))) * planes if height else 0
    if len(offsets if isinstance(offsets, tuple) else (offsets,)) < needed:
        raise InputError(f"{name}: file is damaged: a part of its pixels is missing", "copy or download it again")


def _fit_transparency(image: Image.Image, bits: int) -> None:
    """Pillow gives gray of 2 and 4 bits and colour of 16 bits as 8 bits, but the transparent value as stored."""
    value = image.info.get("transparency")
    if isinstance(value, int) and image.mode == "L" and bits in (2, 4):
        image.info["transparency"] = value * 255 // (2**bits - 1)
    elif isinstance(value, tuple) and bits == 16:
        image.info["transparency"] = tuple(part >> 8 for part in value)


def _stored_by_plane(image: Image.Image, bits: int) -> bool:
    """Whether a TIFF's channels lie one after the other in a way that Pillow gives wrong pixels of."""
    tags = cast("Any", image).tag_v2
    samples = tags.get(_SAMPLES, 1)
    return tags.get(_PLANAR) == _SEPARATE and samples > 1 and (bits == 16 or samples != 3 + (image.mode == "RGBA"))


def _decode_deep(image: Image.Image, data: bytes, bits: int, name: str) -> Arrays | None:
    """Colour of 16 bits, JPEG XL, planes of a TIFF, where their decoders are installed; None where Pillow must do.

    Raises InputError for what Pillow would misread, where they are not.
    """
    icc = image.info.get("icc_profile")
    if image.format == "JXL":
        return jpegxl_arrays(data)
    if (samples := deep_samples(image, data)) is not None:
        return arrays_of(samples, icc)
    if image.format == "TIFF" and _stored_by_plane(image, bits):
        planes = deep_tiff(data, image.size) if has_io() else None
        if planes is None:
            raise InputError(f"{name}: its channels are stored one after the other, which Pillow misreads", IO)
        return arrays_of(planes, icc)
    if image.format in ("JPEG2000", "AVIF", "HEIF"):
        ready = (has_io() or image.format == "HEIF") and 8 < bits <= 16 and image.mode in ("RGB", "RGBA")
        planes = deep_picture(data, image.format, bits, image.size) if ready else None
        return None if planes is None else arrays_of(planes, icc)
    if bits != 16 or not has_io() or image.mode not in ("RGB", "RGBA", "RGBX", "RGBa", "LA"):
        return None
    planes = (
        deep_png(data) if image.format == "PNG" else deep_tiff(data, image.size) if image.format == "TIFF" else None
    )
    return None if planes is None else arrays_of(planes, icc)
