"""What visitors are answered: with headers that keep the page to itself, and errors that say nothing of the machine."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import http
import json
import re
from contextlib import suppress
from typing import Any

__all__ = ["Reply", "policy", "refusal"]

_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
]
_SCRIPT = re.compile(rb"<script(?![^>]*\ssrc\s*=)[^>]*>(.*?)</script>", re.DOTALL | re.IGNORECASE)
_MOST = 2**24  # bytes of a page
_DRAINED = 2**22  # bytes that are thrown away after an answer


def policy(page: bytes = b"") -> bytes:
    """The Content-Security-Policy: nothing comes from elsewhere or goes there.

    Args:
        page: HTML whose scripts may run, each known by its hash, so that one that came in by a text may not.
    """
    # carriage returns are not there any more when a browser takes the hash
    scripts = [each.replace(b"\r\n", b"\n") for each in _SCRIPT.findall(page)]
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(each).digest()).decode()}'" for each in scripts]
    # Gradio makes the functions of its components (js_on_load, js=) from text, which is eval to a browser
    rules = {
        "default-src": ["'none'"], "script-src": ["'self'", "'unsafe-eval'", *hashes], "style-src": ["'self'", "'unsafe-inline'"],
        "img-src": ["'self'", "data:", "blob:"], "font-src": ["'self'", "data:"], "connect-src": ["'self'", "data:", "blob:"],
        "media-src": ["'self'", "blob:"], "worker-src": ["'self'", "blob:"], "manifest-src": ["'self'"], "form-action": ["'self'"],
        "base-uri": ["'self'"], "frame-ancestors": ["'none'"],
    }  # fmt: skip
    return "; ".join(" ".join([name, *values]) for name, values in rules.items()).encode()


class Reply:
    """The `send` that an application is given: adds headers, and looks through pages and errors.

    Args:
        send: of ASGI.
        path: that was asked for.
        hidden: folders that no error may name.
    """

    def __init__(self, send: Any, path: str, hidden: tuple[str, ...]) -> None:
        self._send, self._path, self._hidden = send, path, [each.encode() for each in hidden if len(each) > 1]
        self._start: dict[str, Any] | None = None
        self._body = bytearray()
        self.begun = False

    async def __call__(self, message: dict[str, Any]) -> None:
        """One message of the application."""
        if message["type"] == "http.response.start":
            self._start = message
            if not self._looked_through():
                await self._begin(list(message["headers"]), policy())
            return
        if self._start is None or self.begun:
            await self._send(message)
            return
        self._body += message.get("body", b"")
        if not message.get("more_body"):
            await self.end()

    def _looked_through(self) -> bool:
        """Whether the whole answer is read before it is sent: errors, and the page."""
        assert self._start is not None
        kinds = [value for name, value in self._start["headers"] if name.lower() == b"content-type"]
        return self._start["status"] >= 400 or any(kind.startswith(b"text/html") for kind in kinds)

    async def _begin(self, headers: list[tuple[bytes, bytes]], rules: bytes) -> None:
        assert self._start is not None
        self.begun = True
        ours = [*_HEADERS, (b"content-security-policy", rules)]
        names = {name for name, _ in ours} | {b"server"}
        kept = [(name, value) for name, value in headers if name.lower() not in names]
        await self._send({**self._start, "headers": kept + ours})

    async def end(self) -> None:
        """Send what was read, where it was."""
        if self._start is None or self.begun:
            return
        body, headers = bytes(self._body), list(self._start["headers"])
        if self._start["status"] >= 400:
            encoded = any(name.lower() == b"content-encoding" for name, _ in headers)
            if encoded or len(body) > _MOST or any(place in body for place in self._hidden) or b"Traceback" in body:
                body = _detail(http.HTTPStatus(self._start["status"]).phrase.lower())
                headers = [pair for pair in headers if pair[0].lower() not in (b"content-encoding", b"content-type")]
                headers.append((b"content-type", b"application/json"))
            headers = [pair for pair in headers if pair[0].lower() != b"content-length"]
            headers.append((b"content-length", str(len(body)).encode()))
        await self._begin(headers, policy(body))
        await self._send({"type": "http.response.body", "body": body})


async def refusal(receive: Any, send: Any, status: int, why: str, begun: bool) -> None:
    """Answer instead of the application.

    Args:
        receive, send: of ASGI.
        status: of HTTP.
        why: for the visitor.
        begun: whether an answer has begun, which then just ends.
    """
    if begun:
        await send({"type": "http.response.body", "body": b""})
        return
    body = _detail(why)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    if status == 401:
        headers.append((b"www-authenticate", b'Basic realm="Sfumato", charset="UTF-8"'))
    headers += [*_HEADERS, (b"content-security-policy", policy())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    await _drained(receive)
    await send({"type": "http.response.body", "body": b""})


async def _drained(receive: Any) -> None:
    """Throw away a little of what still comes: a connection that is closed with something unread takes the answer with it."""
    left = _DRAINED
    with suppress(TimeoutError):
        async with asyncio.timeout(1):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body"):
                    return


def _detail(why: str) -> bytes:
    return json.dumps({"detail": why}).encode()
