"""What stands in front of the page: who may ask, for what, and how much, decided before Gradio sees any of it."""

from __future__ import annotations

import asyncio
import re
import sys
import traceback
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .guarded_bodies import Refused, read_json, read_upload
from .guarded_replies import Reply, refusal
from .options import is_loopback
from .passwords import Passwords

__all__ = ["Guard"]

_API = "/gradio_api"
# everything that the page and the client ask for; what is not here is not there: proxies, streams, recordings, reloads, functions of
# components, monitoring, deep links, histories, pages of a log-in of which Gradio leaves some routes open
_READ = re.compile(
    rf"/|/config/?|/theme\.css|/favicon\.ico|/robots\.txt|/manifest\.json|/(?:static|assets|svelte)/[\w./@+-]+"
    rf"|{_API}/(?:info/?|app_id/?|theme\.css|startup-events|queue/status|queue/data|heartbeat/[\w-]+|upload_progress|login_check/?)"
    rf"|{_API}/call/(?:v2/)?\w+/\w+|{_API}/file=.+",
    re.DOTALL,
)
_SAID = re.compile(rf"{_API}/(?:queue/join|(?:call|call/v2|run|api)/\w+/?|cancel|reset/?)")
_UPLOAD = f"{_API}/upload"
_FILE = f"{_API}/file="


class Guard:
    """An ASGI application around another.

    Args:
        app: what is guarded.
        host: that is listened on; where it is this machine alone, requests by another name are refused, since a page of somebody else's
            whose name was made to lead here (DNS rebinding) would otherwise be one of ours.
        uploads: folder in which uploaded files lie; no other is ever read for a visitor.
        upload: bytes of a file, at most.
        passwords: of those who may look.
        pause: seconds before a wrong password is answered.
    """

    def __init__(
        self, app: Any, host: str, uploads: Path, upload: int, passwords: Passwords, pause: float = 1.0
    ) -> None:
        self._app, self._local, self._uploads, self._upload = app, is_loopback(host), uploads.resolve(), upload
        self._passwords, self._pause = passwords, pause
        self._reading = asyncio.Semaphore(8)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One connection, as ASGI has it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # nothing here speaks over a web socket
            await send({"type": "websocket.close", "code": 1008})
            return
        reply = Reply(
            send, scope["path"], (str(self._uploads), str(Path(__file__).parents[2]), sys.prefix, str(Path.home()))
        )
        try:
            headers = _headers(scope)
            self._known(headers)
            if self._passwords and not self._passwords.admits(headers.get("authorization")):
                await asyncio.sleep(self._pause if "authorization" in headers else 0)
                raise Refused(401, "who are you? give your user and password")
            receive = await self._allowed(scope, headers, receive)
            if scope["path"] == "/":  # its scripts are hashed, so it comes as it is
                scope = {
                    **scope,
                    "headers": [pair for pair in scope["headers"] if pair[0].lower() != b"accept-encoding"],
                }
            await self._app(scope, receive, reply)
            await reply.end()
        except Refused as refused:
            await refusal(receive, send, refused.status, str(refused), reply.begun)
        except Exception as error:
            traceback.print_exception(error, file=sys.stderr)
            await refusal(receive, send, 500, "the server failed at this, and its log says where", reply.begun)

    def _known(self, headers: dict[str, str]) -> None:
        """Refuse requests that came by another name, or from another page."""
        host = headers.get("host", "")
        try:
            name = urlsplit(f"//{host}").hostname if host else None
        except ValueError:  # a bracket without its other half
            name = None
        if not name or (self._local and not is_loopback(name)):
            raise Refused(403, "this page is known by the name of this machine only, such as 127.0.0.1 or localhost")

    async def _allowed(self, scope: Any, headers: dict[str, str], receive: Any) -> Any:
        """Refuse what is not for visitors; what is read of a body is given on again."""
        method, path = scope["method"], scope["path"]
        if method in ("GET", "HEAD"):
            if not _READ.fullmatch(path) or "/../" in path:
                raise Refused(404, "there is nothing here")
            if path.startswith(_FILE):
                self._own(path[len(_FILE) :])
            return receive
        if method != "POST":
            raise Refused(405, "only GET, HEAD and POST are understood here")
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "same-origin")
        if site not in ("same-origin", "none") or (
            origin is not None and origin.partition("://")[2] != headers["host"]
        ):
            raise Refused(403, "a page from elsewhere asked for this")
        if path != _UPLOAD and not _SAID.fullmatch(path):
            raise Refused(404, "there is nothing here")
        if path != _UPLOAD:
            return await read_json(headers, receive, self._uploads)
        if self._reading.locked():
            raise Refused(503, "too many are sending pictures at once; try again")
        async with self._reading:
            return await read_upload(headers, receive, self._upload)

    def _own(self, name: str) -> None:
        """Refuse files that are not among those that were uploaded."""
        try:
            inside = "\0" not in name and Path(name).resolve().is_relative_to(self._uploads)
        except (OSError, ValueError, RuntimeError):
            inside = False
        if not inside or not Path(name).is_absolute() or ".." in Path(name).parts:
            raise Refused(404, "there is no such file")


def _headers(scope: Any) -> dict[str, str]:
    """By lower-case name; what decides must be said once.

    Raises:
        Refused: where it is said twice.
    """
    found: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name = raw.decode("latin-1").lower()
        if name in found and name in ("host", "origin", "content-length", "content-type", "authorization"):
            raise Refused(400, f"{name} is said twice")
        found[name] = value.decode("latin-1")
    return found
