"""The demo's page as it is served, guard and all, on a port of its own: what its tests share."""

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from modelled import made

from sfumato.tools.demo.limits import Limits
from sfumato.tools.demo.passwords import Passwords
from sfumato.tools.demo.running import Running
from sfumato.tools.demo.serving import listening, serving, url_of
from sfumato.tools.demo.shelf import Entry, Shelf
from sfumato.tools.demo.surroundings import surroundings


@dataclass(frozen=True)
class Served:
    """Where a page is: its address, port, folder of uploads, and who is at work."""

    url: str
    port: int
    folder: Path
    running: Running

    def ask(self, method, path, body=None, **headers):
        """(status, headers, body) of one request, sent as it is; names of headers have _ for -."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            with suppress(BrokenPipeError):  # it may be answered before it is read
                connection.request(method, path, body, named)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def say(self, path, tree, **headers):
        """The same for JSON."""
        return self.ask("POST", path, json.dumps(tree), content_type="application/json", **headers)


@contextmanager
def served(entries=None, limits=None, users=None, host="127.0.0.1") -> Iterator[Served]:
    """A page on tiny untrained models, or on others."""
    with surroundings() as folder:
        from sfumato.tools.demo.app import build_app

        running, limits = Running(), limits or Limits()
        sock = listening(host, 0)
        port = sock.getsockname()[1]
        page = build_app(Shelf(entries or [Entry("tiny", made)]), limits, running)
        with serving(page, sock, host, folder, limits, Passwords(users or {}), running):
            yield Served(url_of(host, port), port, folder, running)
