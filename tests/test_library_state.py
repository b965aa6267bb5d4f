"""What importing and using irnscale leaves of other libraries' process-wide state: all of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, io, logging, warnings
import numpy as np
from PIL import Image, ImageFile, PngImagePlugin, TiffImagePlugin, _imaging

CALL = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
ours = [CALL(lambda *_: None), CALL(lambda *_: None)]
library = ctypes.CDLL(_imaging.__file__)

def handlers(new):
    found = []
    for name, handler in zip(("TIFFSetErrorHandler", "TIFFSetWarningHandler"), new):
        set_handler = getattr(library, name, None)
        if set_handler is None:
            return None
        set_handler.restype, set_handler.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
        found.append(set_handler(handler))
    return found

addresses = [ctypes.cast(one, ctypes.c_void_p).value for one in ours]
handlers(addresses)

def state():
    tiff = handlers([None, None])
    if tiff is not None:
        handlers(tiff)
    return (tiff, Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY,
            ImageFile.LOAD_TRUNCATED_IMAGES, TiffImagePlugin.READ_LIBTIFF, TiffImagePlugin.WRITE_LIBTIFF,
            list(warnings.filters), list(logging.getLogger("PIL").handlers), logging.getLogger("PIL").level,
            list(logging.getLogger().handlers))

before = state()
ACTION
assert state() == before, (before, state())
"""
READ = """
from irnscale.errors import InputError
from irnscale.images.inspect import describe
from irnscale.images.read import read_picture, read_header
files = []
for kind in ("PNG", "JPEG", "TIFF", "WEBP"):
    file = io.BytesIO()
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(file, kind)
    files.append(file.getvalue())
for data in (*files, files[2][:60], files[2][:-9], b"II*", b"nothing"):
    for read in (read_picture, read_header):
        try:
            read(data)
        except InputError:
            pass
"""


@pytest.mark.parametrize(
    "action", ["import irnscale.images.opening", "import irnscale, irnscale.images.read, irnscale.images.write", READ]
)
def test_nothing_of_pillow_and_libtiff_is_changed(action):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("ACTION", action)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_libtiff_is_quiet_while_we_read():
    action = READ + "\nassert len(files) == 4"
    program = PROGRAM.replace("handlers(addresses)", "").replace("ACTION", action)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
