"""Writing a file whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import time
from importlib import import_module
from typing import IO, TYPE_CHECKING, Any

from irnscale.errors import OutputError

if TYPE_CHECKING:
    from pathlib import Path

fcntl: Any = None  # Windows has none; an open file cannot be removed there anyway
with contextlib.suppress(ImportError):
    fcntl = import_module("fcntl")

_PREFIX, _SUFFIX = ".irnscale-", ".tmp"
_SURELY_STALE = 24 * 3600  # seconds
_NO_LINKS = {*(errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)}


class AlreadyThereError(OutputError):
    """The target exists and may not be replaced."""


def write_bytes_atomic(data: bytes, target: Path, *, overwrite: bool = False) -> None:
    """Write `data` to `target` so that at no time a part of it stands there.

    Without `overwrite` an existing target is never replaced, not even one that appears meanwhile.
    Raises OutputError; whatever is raised, KeyboardInterrupt included, no temporary file stays behind.
    """
    temporary = target.parent / f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"
    file: IO[bytes] | None = None
    try:
        _check_target(target, overwrite=overwrite)
        file = _write(data, temporary)
        if overwrite:
            with contextlib.suppress(OSError):
                temporary.chmod(stat.S_IMODE(target.stat().st_mode))  # of the file that is replaced
            temporary.replace(target)
        else:
            _rename_if_free(temporary, target)
        _sync_folder(target.parent)
    except FileExistsError as error:
        raise _exists(target) from error
    except OSError as error:
        raise _explain(target, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if file is not None:
            file.close()


def check_writable(target: Path, *, overwrite: bool = False) -> None:
    """Raise the OutputError of `write_bytes_atomic` before long work is spent on what it would refuse.

    Tries an empty file in the target's folder, which is removed again.
    """
    _check_target(target, overwrite=overwrite)
    probe = target.parent / f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"
    try:
        file = _write(b"", probe)
    except OSError as error:
        raise _explain(target, error) from error
    with contextlib.suppress(OSError):
        probe.unlink()
    if file is not None:
        file.close()


def _check_target(target: Path, *, overwrite: bool) -> None:
    if target.is_dir():
        raise OutputError(f"{target}: is a folder", "give a file name")
    if target.exists() and not target.is_file():  # which a file under its name would replace
        raise OutputError(f"{target}: is a device or a pipe", "give a file name")
    if not overwrite and os.path.lexists(target):
        raise _exists(target)


def remove_stale(folder: Path) -> None:
    """Remove the temporary files that killed processes left in `folder`; those being written stay.

    A writer holds a lock on its file. Where the file system knows no locks, age must tell.
    """
    with contextlib.suppress(OSError):
        for path in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
            with contextlib.suppress(OSError):
                if _abandoned(path):
                    path.unlink()


def _abandoned(path: Path) -> bool:
    if fcntl is None:
        return True
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return time.time() - path.stat().st_mtime > _SURELY_STALE
    return True


def _write(data: bytes, path: Path) -> IO[bytes] | None:
    """Write and sync. Returns the file, open and locked as long as it has its temporary name."""
    # os.open instead of tempfile: the file gets the permissions that the user's umask asks for
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    file = os.fdopen(descriptor, "wb")
    try:
        if fcntl is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    except BaseException:
        with contextlib.suppress(OSError):  # a full disk fails once more
            file.close()
        raise
    if fcntl is None:  # Windows renames no open file
        file.close()
        return None
    if not path.exists():  # somebody cleared it away before it was locked
        file.close()
        return _write(data, path)
    return file


def _rename_if_free(source: Path, target: Path) -> None:
    """Rename; FileExistsError where the target is there. `rename` itself would replace it silently."""
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LINKS:
            raise
    else:
        return
    # No hard links here (FAT, some network drives): claim the name first, then replace the claim.
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        source.replace(target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    """Make the new name itself durable, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _exists(target: Path) -> AlreadyThereError:
    return AlreadyThereError(f"{target}: already exists", "add `overwrite` to replace it", parameters=("overwrite",))


def _explain(target: Path, error: OSError) -> OutputError:
    if isinstance(error, FileNotFoundError) and target.parent.is_dir():  # such as /proc
        return OutputError(f"{target}: its folder takes no new files", "choose another place")
    if isinstance(error, FileNotFoundError):
        return OutputError(f"{target}: its folder does not exist", "create it or choose another place")
    if isinstance(error, NotADirectoryError):
        return OutputError(f"{target}: a part of its path is no folder", "choose another place")
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return OutputError(f"{target}: its folder may not be written to", "choose another place")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(f"{target}: the disk is full", "free space or choose another place")
    reason = error.strerror or error
    return OutputError(f"{target}: cannot be written: {reason}", "choose another place")
