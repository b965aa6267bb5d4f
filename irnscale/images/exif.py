"""EXIF blocks: made to fit pixels that were turned upright and changed their size."""

from __future__ import annotations

import struct

from irnscale.images.tiff_directories import TYPE_SIZES

PREFIX = b"Exif\0\0"

ORIENTATION = 0x0112
EXIF_IFD, _GPS_IFD, _INTEROP_IFD = 0x8769, 0x8825, 0xA005
_SIZE_TAGS = {0x0100, 0x0101}  # ImageWidth, ImageLength
_PIXEL_TAGS = {0xA002, 0xA003}  # PixelXDimension, PixelYDimension
_THUMBNAIL_START, _THUMBNAIL_LENGTH = 0x0201, 0x0202
_SHORT, _LONG = 3, 4


def upright_exif(block: bytes) -> bytes:
    """The block with orientation 1 and without size tags and thumbnail. Raises ValueError if damaged.

    The block is patched where it stands: rewriting it would move the camera's maker note, whose own
    offsets would then point nowhere. Removed entries leave unused bytes behind their directory.
    """
    while block.startswith(PREFIX):
        block = block[len(PREFIX) :]
    try:
        patch = _Patch(block)
        first = patch.u32(4)
        following = patch.next_offset(first)
        if following:
            patch.drop_thumbnail(following)
            patch.end_chain(first)
        patch.set_short(first, ORIENTATION, 1)
        sub = patch.value(first, EXIF_IFD)
        if sub is not None:
            patch.remove(sub, _PIXEL_TAGS)
        patch.remove(first, _SIZE_TAGS)
    except (struct.error, IndexError) as error:
        raise ValueError("the EXIF block is damaged") from error
    return bytes(patch.data)


def without_orientation(block: bytes) -> bytes:
    """An upright block less its orientation tag, whose absence means the same."""
    patch = _Patch(block)
    patch.remove(patch.u32(4), {ORIENTATION})
    return bytes(patch.data)


def without_loose_ends(block: bytes) -> bytes:
    """An upright block without the entries that lead beyond it, where a TIFF file would have its pixels.

    Raises ValueError if damaged.
    """
    try:
        patch = _Patch(block)
        first = patch.u32(4)
        patch.tie(first, _GPS_IFD)
        if (exif := patch.tie(first, EXIF_IFD)) is not None:
            patch.tie(exif, _INTEROP_IFD)
    except (struct.error, IndexError) as error:
        raise ValueError("the EXIF block is damaged") from error
    return bytes(patch.data)


class _Patch:
    """A TIFF structure in a bytearray. Offsets count from its beginning; reads beyond it raise."""

    def __init__(self, block: bytes) -> None:
        self.data = bytearray(block)
        if block[:4] not in (b"II*\0", b"MM\0*"):
            raise ValueError("the EXIF block has no TIFF header")
        self._order = "<" if block[:2] == b"II" else ">"

    def u16(self, offset: int) -> int:
        return int(struct.unpack_from(self._order + "H", self.data, offset)[0])

    def u32(self, offset: int) -> int:
        return int(struct.unpack_from(self._order + "I", self.data, offset)[0])

    def _entries(self, directory: int) -> range:
        """Offsets of a directory's entries, 12 bytes each."""
        start = directory + 2
        end = start + 12 * self.u16(directory)
        if directory < 8 or end > len(self.data):
            raise ValueError("the EXIF block is damaged")
        return range(start, end, 12)

    def _find(self, directory: int, tag: int) -> int | None:
        return next((entry for entry in self._entries(directory) if self.u16(entry) == tag), None)

    def value(self, directory: int, tag: int) -> int | None:
        """The single number (SHORT or LONG) of a tag."""
        entry = self._find(directory, tag)
        if entry is None:
            return None
        return self.u16(entry + 8) if self.u16(entry + 2) == _SHORT else self.u32(entry + 8)

    def tie(self, directory: int, tag: int) -> int | None:
        """The directory that a tag leads to, less its loose entries; where it is none, the tag is removed."""
        linked = self.value(directory, tag)
        if linked is None:
            return None
        try:
            self.remove(linked, self.loose(linked))
        except (ValueError, struct.error):
            self.remove(directory, {tag})
            return None
        return linked

    def loose(self, directory: int) -> set[int]:
        """Tags whose content is not wholly in the block."""
        found = set()
        for entry in self._entries(directory):
            size = TYPE_SIZES.get(self.u16(entry + 2), 0) * self.u32(entry + 4)
            if size > 4 and self.u32(entry + 8) + size > len(self.data):
                found.add(self.u16(entry))
        return found

    def set_short(self, directory: int, tag: int, value: int) -> None:
        """Overwrite a tag that is there."""
        entry = self._find(directory, tag)
        if entry is not None:
            struct.pack_into(self._order + "HIHH", self.data, entry + 2, _SHORT, 1, value, 0)

    def next_offset(self, directory: int) -> int:
        """Where the directory after this one is; 0 where there is none."""
        end = self._entries(directory).stop
        return self.u32(end) if end + 4 <= len(self.data) else 0

    def end_chain(self, directory: int) -> None:
        end = self._entries(directory).stop
        self.data[end : end + 4] = bytes(4)

    def remove(self, directory: int, tags: set[int]) -> None:
        """Remove entries; those behind them, and the link to the next directory, move up."""
        entries = self._entries(directory)
        link = self.data[entries.stop : entries.stop + 4]
        kept = [self.data[entry : entry + 12] for entry in entries if self.u16(entry) not in tags]
        freed = bytes(12 * (len(entries) - len(kept)))
        struct.pack_into(self._order + "H", self.data, directory, len(kept))
        self.data[entries.start : entries.stop + len(link)] = b"".join(kept) + link + freed

    def drop_thumbnail(self, directory: int) -> None:
        """Blank the thumbnail and its directory; cut the thumbnail off where it ends the block."""
        try:
            entries = self._entries(directory)
            start = self.value(directory, _THUMBNAIL_START)
            length = self.value(directory, _THUMBNAIL_LENGTH)
        except (ValueError, struct.error):
            return  # the link is removed all the same
        self.data[entries.start : entries.stop] = bytes(len(entries) * 12)
        if start is None or length is None or start < entries.stop or start + length > len(self.data):
            return
        if start + length == len(self.data):
            del self.data[start:]
        else:
            self.data[start : start + length] = bytes(length)
