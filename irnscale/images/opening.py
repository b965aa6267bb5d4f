"""Opening pictures with Pillow: quietly, by content, and with every failure turned into one line."""

from __future__ import annotations

import ctypes
import io
import logging
import stat
import struct
import threading
import warnings
import zlib
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, BinaryIO

from PIL import Image, PngImagePlugin, UnidentifiedImageError, _imaging, features

from irnscale.errors import InputError
from irnscale.images.embedded import reveal
from irnscale.images.jpegxl import JpegXlFile, is_jpegxl
from irnscale.images.optional_decoders import HEIF, IO, has_heif, has_io, is_heic
from irnscale.images.png_mending import SIGNATURE, mended
from irnscale.images.raw import is_camera_raw
from irnscale.images.unsupported import unsupported

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Formats that run other programs (EPS), only work on Windows, or are stubs without a decoder.
_REFUSED = {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"}

# Everything Pillow's decoders are known to raise on damaged files.
PILLOW_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    EOFError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

_HEADS = (
    b"\x89PNG",
    b"\xff\xd8\xff",
    b"II*\0",
    b"MM\0*",
    b"GIF8",
    b"BM",
    b"\0\0\0\x0cjP  ",
    b"\xff\x0a",
    b"\0\0\0\x0cJXL",
)
MAX_BYTES = 2**33
"""Of a file: 10^9 pixels, the default limit, have 8 * 10^9 bytes at four channels of 16 bits."""
_LARGE = 2**26
_GET_AGAIN = "copy or download it again"
# (offset, magic, what it is, what to do); only for what Pillow could not identify
_OTHERS = (
    (4, b"ftypheic", "a HEIC picture, which needs pillow-heif", HEIF),
    (4, b"ftypheix", "a HEIC picture, which needs pillow-heif", HEIF),
    (4, b"ftypmif1", "a HEIF picture, which needs pillow-heif", HEIF),
    (4, b"ftypavif", "an AVIF picture, which this Pillow cannot decode", "install a Pillow with AVIF"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 whose header is damaged", _GET_AGAIN),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 whose header is damaged", _GET_AGAIN),
    (0, b"\xff\x0a", "a JPEG XL picture, which needs imagecodecs", IO),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL picture, which needs imagecodecs", IO),
    (0, b"%PDF", "a PDF document", "export its pages as pictures"),
    (0, b"%!PS", "a PostScript document", "export it as a picture"),
    (4, b"ftyp", "a video", "give pictures"),
    (0, b"\x1aE\xdf\xa3", "a video", "give pictures"),
    (0, b"\x89PNG", "a PNG whose header is damaged", _GET_AGAIN),
    (0, b"\xff\xd8\xff", "a JPEG whose header is damaged", _GET_AGAIN),
    (0, b"RIFF", "not a picture, or a WebP whose header is damaged", _GET_AGAIN),
    (0, b"II*\0", "a TIFF whose header is damaged or of an unsupported kind", _GET_AGAIN),
    (0, b"MM\0*", "a TIFF whose header is damaged or of an unsupported kind", _GET_AGAIN),
    (0, b"GIF8", "a GIF whose header is damaged", _GET_AGAIN),
    (0, b"BM", "not a picture, or a BMP whose header is damaged", _GET_AGAIN),
    *(
        (0, magic, f"{what}, which is not supported", "convert it to PNG or TIFF")
        for magic, what in (
            (b"P7\n", "a PAM picture"),
            (b"PF\n", "a PFM picture in colour"),
            (b"v/1\x01", "an OpenEXR picture"),
            (b"#?RADIANCE", "a Radiance HDR picture"),
            (b"#?RGBE", "a Radiance HDR picture"),
            (b"II\xbc\x01", "a JPEG XR picture"),
            (b"DDS ", "a DDS texture"),
            (b"gimp xcf", "a GIMP project"),
            (b"BPG\xfb", "a BPG picture"),
            (b"FLIF", "a FLIF picture"),
            (b"AT&TFORM", "a DjVu document"),
            (b"farbfeld", "a farbfeld picture"),
            (b"\x8aMNG", "an MNG animation"),
            (b"\x8bJNG", "a JNG picture"),
            (b"SIMPLE  =", "a FITS picture"),
        )
    ),
    (0, b"version https://git-lfs", "a pointer of Git LFS and not the picture", "fetch it with git lfs pull"),
    (0, b"PK\x03\x04", "a ZIP archive, or a document in one", "give the pictures in it"),
    (0, b"\x1f\x8b", "a gzip file", "unpack it"),
    (0, b"Rar!", "a RAR archive", "give the pictures in it"),
    (0, b"7z\xbc\xaf", "a 7-Zip archive", "give the pictures in it"),
)
_PAGE = (b"<!doctype html", b"<html")


class _Libtiff:
    """libtiff prints what it dislikes about a file to stderr, past Python; Pillow has no switch for it.

    Its functions are found through Pillow's own module, which is linked with it; if they cannot be found, libtiff keeps
    printing.
    """

    _NAMES = ("TIFFSetErrorHandler", "TIFFSetWarningHandler")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._before: list[int | None] = []

    def silence(self) -> None:
        """No handlers, until as many calls of `restore`."""
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._before = self._set([None, None])

    def restore(self) -> None:
        """The handlers that were there before."""
        with self._lock:
            self._users -= 1
            if not self._users:
                self._set(self._before)

    def _set(self, handlers: list[int | None]) -> list[int | None]:
        """Set them; those that were there."""
        before: list[int | None] = []
        with suppress(AttributeError, OSError, TypeError):
            library = ctypes.CDLL(_imaging.__file__)
            for name, handler in zip(self._NAMES, handlers, strict=False):
                set_handler = getattr(library, name)
                set_handler.restype, set_handler.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
                before.append(set_handler(handler))
        return before


_libtiff = _Libtiff()


@contextmanager
def quiet_libtiff() -> Iterator[None]:
    """Silence what libtiff would print inside; Pillow's limits stay."""
    _libtiff.silence()
    try:
        yield
    finally:
        _libtiff.restore()


class _Quiet:
    """Pillow's and libtiff's process-wide limits and warnings, lifted while at least one thread is reading.

    `warnings.catch_warnings` alone would leave the filters of another thread behind when two readers
    overlap; the first reader in switches, the last one out restores.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers = 0
        self._warnings: warnings.catch_warnings[Any] | None = None
        self._limits: tuple[int | None, int] = (None, 0)
        self._log = logging.NullHandler()  # without any, Python prints Pillow's errors to stderr

    def enter(self) -> None:
        with self._lock:
            self._readers += 1
            if self._readers > 1:
                return
            self._warnings = warnings.catch_warnings()
            self._warnings.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\b")
            _libtiff.silence()
            logging.getLogger("PIL").addHandler(self._log)
            self._limits = (Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK)
            Image.MAX_IMAGE_PIXELS = None  # we have our own limit
            PngImagePlugin.MAX_TEXT_CHUNK = 2**24  # holds for colour profiles, which exceed its 1 MiB
            Image.init()  # while no other thread walks the table of formats

    def leave(self) -> None:
        with self._lock:
            self._readers -= 1
            if self._readers or self._warnings is None:
                return
            Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = self._limits
            _libtiff.restore()
            logging.getLogger("PIL").removeHandler(self._log)
            self._warnings.__exit__(None, None, None)
            self._warnings = None


_quiet = _Quiet()


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Silence Pillow's warnings and lift its own size limits inside; safe from several threads."""
    _quiet.enter()
    try:
        yield
    finally:
        _quiet.leave()


def source_name(source: Path | bytes, name: str | None) -> str:
    """What to call a source in messages."""
    if name is not None:
        return name
    return "input" if isinstance(source, bytes) else str(source)


def is_picture_head(head: bytes) -> bool:
    """Whether a file that begins so is a picture of a common format."""
    return head.startswith(_HEADS) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP") or head[4:8] == b"ftyp"


def read_bytes(path: Path, name: str) -> bytes:
    """The bytes of a file that is there and not empty. Raises InputError otherwise."""
    with _file_errors(name):
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise InputError(f"{name}: is a folder", "give the files in it")
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) or stat.S_ISSOCK(mode):
            raise InputError(f"{name}: is a device, not a file", "give a file, or - for stdin")
        length = path.stat().st_size
    if length > _LARGE and stat.S_ISREG(mode):
        _check_length(path, name, length)
    with _file_errors(name), path.open("rb") as file:
        data = file.read() if stat.S_ISREG(mode) else read_bounded(file, name)
    if not data:
        raise InputError(f"{name}: file is empty", _GET_AGAIN)
    return data


def read_bounded(file: BinaryIO, name: str) -> bytes:
    """All that a stream gives. Raises InputError where that is more than MAX_BYTES."""
    pieces, length = [], 0
    while piece := file.read(_LARGE):  # with a limit as its argument, `read` would reserve memory for all of it
        pieces.append(piece)
        length += len(piece)
        if length > MAX_BYTES:
            raise InputError(f"{name}: more than {MAX_BYTES} bytes", "give smaller pictures")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _check_length(path: Path, name: str, length: int) -> None:
    """Refuse a large file that is no picture, or too large for the one that it is, without reading it."""
    with open_source(path, name) as image:
        width, height = image.size
    if length > MAX_BYTES:
        what = f"{name}: has {length} bytes, too many for a picture of {width}x{height}"
        raise InputError(what, f"the limit is {MAX_BYTES} bytes")


@contextmanager
def open_source(source: Path | bytes, name: str | None = None) -> Iterator[Image.Image]:
    """Open a picture by its content, without decoding pixels, for the time of the `with` block.

    Whatever Pillow raises, here or in the block, becomes an InputError of one line that calls the
    source `name`, or by its path.
    """
    label = source_name(source, name)
    with ExitStack() as stack:
        file: BinaryIO
        if isinstance(source, bytes):
            file = io.BytesIO(source)
        else:
            with _file_errors(label):
                if source.is_dir():
                    raise InputError(f"{label}: is a folder", "give the files in it")
                file = stack.enter_context(source.open("rb"))
        head = file.read(1024)
        file.seek(0)
        if not head:
            raise InputError(f"{label}: file is empty", _GET_AGAIN)
        if is_camera_raw(file):
            raise InputError(f"{label}: is a camera raw file", "develop it to TIFF or PNG first")
        stack.enter_context(quiet_pillow())
        stack.enter_context(failures_as_input_errors(label, head, source))
        if is_jpegxl(head) and has_io():
            yield stack.enter_context(JpegXlFile(file.read()))
            return
        if is_heic(head):
            has_heif()
        image = stack.enter_context(_opened(file, head))
        reveal(image)
        yield image


def _opened(file: BinaryIO, head: bytes) -> Image.Image:
    """By Pillow; a PNG without what is damaged beside its pixels, where Pillow would refuse it."""
    formats = [format_ for format_ in Image.ID if format_ not in _REFUSED]
    try:
        return Image.open(file, formats=formats)
    except PILLOW_ERRORS:
        file.seek(0)
        data, dropped = mended(file.read()) if head.startswith(SIGNATURE) else (b"", ())
        if not dropped:
            raise
        return Image.open(io.BytesIO(data), formats=["PNG"])


@contextmanager
def _file_errors(name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{name}: no such file", "check the path") from error
    except PermissionError as error:
        raise InputError(f"{name}: may not be read", "check its permissions") from error
    except (OSError, ValueError) as error:
        what = f"{name}: cannot be read: {_reason(error)}"
        raise InputError(what, "check the disk and the path") from error
    except MemoryError as error:
        raise InputError(f"{name}: does not fit into memory", "free memory") from error


@contextmanager
def failures_as_input_errors(name: str, data: bytes = b"", source: Path | bytes | None = None) -> Iterator[None]:
    """Turn Pillow's exceptions into InputError; `data`, the file's beginning, helps to name what was not identified.

    `source` is looked into for what is valid and not supported, which is no damage.
    """
    try:
        yield
    except InputError:
        raise
    except UnidentifiedImageError as error:
        what, hint = unsupported(source) or _identify(data)
        raise InputError(f"{name}: {what}", hint) from error
    except MemoryError as error:
        raise InputError(f"{name}: not enough memory to decode it", "free memory") from error
    except PILLOW_ERRORS as error:
        reason = _reason(error)
        if any(word in reason.lower() for word in ("truncated", "eof", "end of", "not enough data")):
            raise InputError(f"{name}: file is truncated", _GET_AGAIN) from error
        if (kind := unsupported(source)) is not None:
            raise InputError(f"{name}: {kind[0]}", kind[1]) from error
        if "MAX_TEXT_" in reason:  # of a PNG, which Pillow reads before the pixels
            raise InputError(f"{name}: its texts or profile are longer than 16 MiB", "remove its metadata") from error
        if any(word in reason.lower() for word in ("unsupported", "not supported", "unimplemented", "not implemented")):
            what = f"{name}: is of a kind that is not supported, or damaged: {reason}"
            raise InputError(what, "convert it to PNG or TIFF") from error
        raise InputError(f"{name}: file is damaged: {reason}", _GET_AGAIN) from error


def _identify(data: bytes) -> tuple[str, str]:
    """What the bytes are, as far as their beginning tells, and the remedy."""
    if data[4:12] == b"ftypavif" and features.check("avif"):
        return "is an AVIF that is damaged or truncated", _GET_AGAIN
    for offset, magic, what, hint in _OTHERS:
        if data[offset : offset + len(magic)] == magic:
            return f"is {what}", hint
    if b"<svg" in data[:1024]:
        return "is an SVG drawing", "export it as PNG"
    if data[:1024].lstrip().lower().startswith(_PAGE):
        return "is not a picture but a web page", "download the picture itself"
    return "is not a picture, whatever its name says", "give PNG, JPEG, WebP or TIFF files"


def _reason(error: BaseException) -> str:
    text = " ".join(str(getattr(error, "strerror", None) or error).split())
    return text[:200] if text.isprintable() and text else type(error).__name__
