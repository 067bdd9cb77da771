"""What a PNG says of itself, without decoding its picture: a file of a few bytes may hold a picture that fills the memory."""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

__all__ = ["PngTexts", "read_png"]

_SIGN = b"\x89PNG\r\n\x1a\n"
# of all texts together, and of pictures; a sheet of 1,024 pictures says about 2 MB of itself
_TEXT, _PIXELS, _CHUNKS = 8 * 2**20, 64 * 10**6, 20_000


class PngTexts(NamedTuple):
    """width, height: in pixels. texts: by keyword, the first one of each."""

    width: int
    height: int
    texts: dict[str, str]


def read_png(data: bytes, most: int) -> PngTexts:
    """The size and the texts of a PNG.

    Args:
        data: the whole file.
        most: bytes of it.

    Raises:
        ValueError: for what is no PNG, is damaged or too large, and for texts that would unpack to more than 8 MB.
    """
    if len(data) > most:
        raise ValueError(f"the file has {len(data):,} bytes; allowed: at most {most:,}")
    if not data.startswith(_SIGN):
        raise ValueError("the file is no PNG; of JPEG and WebP the settings are gone")
    place, width, height, left, texts = len(_SIGN), 0, 0, _TEXT, dict[str, str]()
    for count in range(_CHUNKS):
        if place + 12 > len(data):
            raise ValueError("the PNG ends before its end; it was not copied whole")
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        body = data[place + 8 : place + 8 + length]
        if len(body) < length or place + 12 + length > len(data):
            raise ValueError("the PNG ends before its end; it was not copied whole")
        if zlib.crc32(kind + body) != struct.unpack(">I", data[place + 8 + length : place + 12 + length])[0]:
            raise ValueError("the PNG is damaged: a checksum is wrong")
        place += 12 + length
        if count == 0:
            if kind != b"IHDR" or length != 13:
                raise ValueError("the file is no PNG: it does not begin with its size")
            width, height = struct.unpack(">II", body[:8])
            if not 0 < width * height <= _PIXELS:
                raise ValueError(f"the picture is {width} by {height}; allowed: at most {_PIXELS:,} pixels")
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            found = _text(kind, body, left)
            if found is not None:
                left -= len(found[1])
                texts.setdefault(*found)
        elif kind == b"IEND":
            return PngTexts(width, height, texts)
    raise ValueError(f"the PNG has more than {_CHUNKS:,} parts")


def _text(kind: bytes, body: bytes, left: int) -> tuple[str, str] | None:
    """Keyword and text of a chunk; None where it says nothing that can be read.

    Raises:
        ValueError: where it would unpack to more than `left` bytes.
    """
    key, _, rest = body.partition(b"\0")
    packed, coding = kind == b"zTXt", "latin-1"
    if kind == b"zTXt":
        rest = rest[1:]
    elif kind == b"iTXt":
        packed, coding = rest[:1] == b"\1", "utf-8"
        parts = rest[2:].split(b"\0", 2)  # language, the keyword in it, the text
        rest = parts[2] if len(parts) == 3 else b""
    if packed:
        stream = zlib.decompressobj()
        try:
            rest = stream.decompress(rest, left + 1)
        except zlib.error:
            return None
    if len(rest) > left:
        raise ValueError(f"the PNG's texts are longer than {_TEXT:,} bytes; no settings are so long")
    return key.decode("latin-1")[:79], rest.decode(coding, "replace")
