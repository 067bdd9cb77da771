"""What visitors send, read whole within limits and looked through before it is given on."""

from __future__ import annotations

import asyncio
import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

__all__ = ["JSON", "PIXELS", "Refused", "read_json", "read_upload"]

JSON = 2**20
"""Bytes of what the page says, at most."""

PIXELS = 2**25
"""Of an uploaded picture, at most."""

_SECONDS = 60
_ENVELOPE = 4096  # bytes of an upload around its file
_SESSION = re.compile(r"[\w-]{1,64}")
_PNG = b"\x89PNG\r\n\x1a\n"


class Refused(Exception):
    """A request that is not given on.

    Args:
        status: of HTTP.
        why: for the visitor.
    """

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


async def read_json(headers: dict[str, str], receive: Any, uploads: Path) -> Any:
    """The `receive` that gives a body on, once it is JSON whose files, if any, are among those that were uploaded.

    Args:
        headers: by lower-case name.
        receive: of ASGI.
        uploads: the folder of uploaded files.

    Raises:
        Refused: otherwise.
    """
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused(415, "this is said as JSON")
    body = await _whole(headers, receive, JSON)
    try:
        tree = json.loads(body)
        # halves of characters (\ud800) can be said in JSON and not be written: Gradio's answer that names one would break off, and whoever
        # asked would wait for ever
        json.dumps(tree, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Refused(400, "a text holds half of a character") from None
    except (ValueError, RecursionError):
        raise Refused(400, "this is no JSON") from None
    session = tree.get("session_hash") if isinstance(tree, dict) else None
    if isinstance(session, str) and not _SESSION.fullmatch(session):  # the server remembers it for hours
        raise Refused(400, "session_hash is no name of a session; allowed: up to 64 letters, digits, _ and -")
    for value in _mappings(tree):
        _check_file(value, uploads, headers["host"])
    return _again(body, receive)


def _mappings(tree: Any) -> Iterator[dict[str, Any]]:
    todo = [tree]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            yield value
            todo += value.values()
        elif isinstance(value, list):
            todo += value


def _check_file(value: dict[str, Any], uploads: Path, host: str) -> None:
    """A file as Gradio has it is {path, url, meta}; where that leads elsewhere it would be fetched, or read."""
    path, url = value.get("path"), value.get("url")
    if path is None and url is None and "meta" not in value:
        return
    wrong = Refused(400, "a file was named that was not uploaded here; drop the picture itself on the page")
    try:
        if not isinstance(path, str) or not Path(path).is_absolute() or "\0" in path or ".." in Path(path).parts:
            raise wrong
        if not Path(path).resolve().is_relative_to(uploads):
            raise wrong
    except (OSError, ValueError, RuntimeError):
        raise wrong from None
    if url is not None:
        where = urlsplit(url) if isinstance(url, str) else None
        if where is None or where.scheme not in ("", "http", "https") or where.netloc not in ("", host):
            raise wrong
        if where.path != f"/gradio_api/file={path}" or where.query or where.fragment:
            raise wrong


async def read_upload(headers: dict[str, str], receive: Any, most: int) -> Any:
    """The `receive` that gives an upload on, once it is one PNG.

    Args:
        headers, receive: as of `read_json`.
        most: bytes of the file.

    Raises:
        Refused: for what is larger, before it is read whole, and for anything else.
    """
    if not headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise Refused(415, "a file is sent as a form")
    body = await _whole(headers, receive, most + _ENVELOPE)
    name, content = _only_part(headers["content-type"], body)
    if len(content) > most:
        raise Refused(413, f"the file has more than {most:,} bytes")
    if not name or len(name) > 255 or any(sign in "/\\:%" or ord(sign) < 32 for sign in name) or name.startswith("."):
        raise Refused(400, "the file has a name that is none")
    if content[:8] != _PNG or content[12:16] != b"IHDR":
        raise Refused(415, "the file is no PNG")
    width, height = struct.unpack(">II", content[16:24].ljust(8, b"\0"))
    if not 0 < width * height <= PIXELS:
        raise Refused(413, f"the picture has {width} by {height} pixels; allowed: {PIXELS:,} in all")
    return _again(body, receive)


def _only_part(content_type: str, body: bytes) -> tuple[str, bytes]:
    """Name and content of the one file of a form, read by the parser that Gradio reads it by."""
    from python_multipart.multipart import MultipartParser, parse_options_header

    heads: list[bytearray] = []
    parts: list[tuple[dict[bytes, bytes], bytearray]] = []
    fields: dict[bytes, bytes] = {}

    def begin() -> None:
        fields.clear()
        heads[:] = [bytearray(), bytearray()]

    def head_ends() -> None:
        fields[bytes(heads[0]).lower()] = bytes(heads[1])
        heads[:] = [bytearray(), bytearray()]

    def heads_end() -> None:
        parts.append((parse_options_header(fields.get(b"content-disposition", b""))[1], bytearray()))

    def data(more: bytes, start: int, end: int) -> None:
        parts[-1][1].extend(more[start:end])

    wrong = Refused(400, "this is no form with one file")
    try:
        boundary = parse_options_header(content_type)[1][b"boundary"]
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": begin, "on_part_data": data, "on_header_end": head_ends, "on_headers_finished": heads_end,
                "on_header_field": lambda more, start, end: heads[0].extend(more[start:end]),
                "on_header_value": lambda more, start, end: heads[1].extend(more[start:end]),
            },
        )  # fmt: skip
        parser.write(body)
        parser.finalize()
        ((options, content),) = parts
        if options[b"name"] != b"files":
            raise wrong
        return options[b"filename"].decode("utf-8"), bytes(content)
    except Refused:
        raise
    except Exception:
        raise wrong from None


async def _whole(headers: dict[str, str], receive: Any, most: int) -> bytes:
    """A body that is no longer than it may be; what is longer is not read on."""
    long = Refused(413, f"this is longer than {most:,} bytes")
    said = headers.get("content-length", "0")
    if not said.isdecimal() or len(said) > 18:
        raise Refused(400, "content-length is no number")
    if int(said) > most:
        raise long
    body = bytearray()
    try:
        async with asyncio.timeout(_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise Refused(400, "the connection was closed")
                body += message.get("body", b"")
                if len(body) > most:
                    raise long
                if not message.get("more_body"):
                    return bytes(body)
    except TimeoutError:
        raise Refused(408, f"this took longer than {_SECONDS} seconds") from None


def _again(body: bytes, receive: Any) -> Any:
    """A `receive` that gives a body at once, and after it what comes, which is that the visitor went away."""
    given = False

    async def again() -> Any:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
