"""Writing a file whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from typing import TYPE_CHECKING

from ..errors import OutputError

if TYPE_CHECKING:
    from pathlib import Path

_NO_LINKS = {*(errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)}


def write_bytes_atomic(data: bytes, target: Path, *, overwrite: bool = False) -> None:
    """Write `data` to `target` so that at no time a part of it stands there.

    Without `overwrite` an existing target is never replaced, not even one that appears meanwhile.
    Raises OutputError; whatever is raised, KeyboardInterrupt included, no temporary file stays behind.
    """
    temporary = target.parent / f".irnscale-{secrets.token_hex(8)}.tmp"
    try:
        if target.is_dir():
            raise OutputError(f"{target}: is a folder", "give a file name")
        if not overwrite and os.path.lexists(target):
            raise _exists(target)
        _write(data, temporary)
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


def _write(data: bytes, path: Path) -> None:
    # os.open instead of tempfile: the file gets the permissions that the user's umask asks for
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


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


def _exists(target: Path) -> OutputError:
    return OutputError(f"{target}: already exists", "add --overwrite to replace it")


def _explain(target: Path, error: OSError) -> OutputError:
    if isinstance(error, FileNotFoundError):
        return OutputError(f"{target}: its folder does not exist", "create it or choose another with -o")
    if isinstance(error, NotADirectoryError):
        return OutputError(f"{target}: a part of its path is no folder", "choose another with -o")
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return OutputError(f"{target}: its folder may not be written to", "choose another with -o")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(f"{target}: the disk is full", "free space or choose another place with -o")
    reason = error.strerror or error
    return OutputError(f"{target}: cannot be written: {reason}", "choose another place with -o")
