"""The user's folders, where there are any: a container's user may have no home, or one that is not theirs."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def data_folder() -> Path | None:
    """Where the platform keeps a user's data; None for a user without a home folder."""
    return _folder("XDG_DATA_HOME", ".local/share", mac="Application Support")


def cache_folder() -> Path | None:
    """Where the platform keeps what can be made again; None for a user without a home folder."""
    return _folder("XDG_CACHE_HOME", ".cache", mac="Caches")


def _folder(variable: str, unix: str, *, mac: str) -> Path | None:
    if sys.platform == "win32":
        chosen, below = os.environ.get("LOCALAPPDATA"), "AppData/Local"
    elif sys.platform == "darwin":
        chosen, below = None, f"Library/{mac}"
    else:
        chosen, below = os.environ.get(variable), unix
    # The XDG specification: a path that is not absolute is invalid, and to be ignored
    if chosen and os.path.isabs(chosen):  # noqa: PTH117
        return Path(chosen)
    if os.environ.get("HOME") == "":  # of which `expanduser` makes the root folder
        return None
    home = os.path.expanduser("~")  # noqa: PTH111 - Path.home raises where there is none
    return Path(home) / below if os.path.isabs(home) else None  # noqa: PTH117
