"""Many visitors of a served page, who speak HTTP as a browser does: what tests of crowds share."""

import base64
import contextlib
import http.client
import io
import json
import re
import socket
import time
import uuid
from dataclasses import asdict

import numpy as np
from PIL import Image

from sfumato.diffusion.images import KEY, to_pixels
from sfumato.tools.demo.form import NAMES, Form

PNG = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=]+)")


class Guest:
    """One visitor: joins the queue with a form, reads what he is sent, and leaves, with a word or without.

    where: a page as `demoed.served` has it. heart: whether he holds the connection that a browser holds while its tab is open.
    """

    def __init__(self, where, heart=False):
        self.where, self.session, self._open = where, uuid.uuid4().hex[:12], []
        if heart:
            self._heart = self._stream(f"/gradio_api/heartbeat/{self.session}")

    def _stream(self, path):
        connection = socket.create_connection(("127.0.0.1", self.where.port), timeout=60)
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.where.port}\r\n\r\n".encode())
        self._open.append(connection)
        return connection

    def join(self, model, **form):
        """(status, body, seconds) of asking for pictures."""
        function, more = sampling(self.where)
        values = asdict(Form(**form))
        data = [model, *(values[name] for name in NAMES), *[""] * more]
        began = time.perf_counter()
        tree = {"data": data, "fn_index": function, "session_hash": self.session}
        status, _, body = self.where.say("/gradio_api/queue/join", tree)
        return status, body, time.perf_counter() - began

    def listen(self):
        """The stream of what happens, opened."""
        self._events = self._stream(f"/gradio_api/queue/data?session_hash={self.session}")
        return self

    def events(self):
        """What he is told, one after the other, to the end of his work."""
        connection = http.client.HTTPConnection("127.0.0.1", self.where.port, timeout=120)
        connection.request("GET", f"/gradio_api/queue/data?session_hash={self.session}")
        answer = connection.getresponse()
        with contextlib.closing(connection):
            for line in iter(answer.readline, b""):
                if line.startswith(b"data: "):
                    message = json.loads(line[6:])
                    yield message
                    if message["msg"] in ("process_completed", "unexpected_error"):
                        return

    def pictures(self):
        """(pixels, settings) of each picture that he has in the end."""
        *_, last = self.events()
        assert last["success"], last
        return [unpacked(text) for text in dict.fromkeys(PNG.findall(json.dumps(last["output"]["data"])))]

    def leave(self):
        """Close every connection, as a tab that is closed does."""
        for connection in self._open:
            connection.close()


def sampling(where):
    """Which function makes pictures, and how many values it takes beside the model and the form."""
    if not hasattr(sampling, "known") or sampling.known[0] != where.port:
        config = json.loads(where.ask("GET", "/config")[2])
        (found,) = [d for d in config["dependencies"] if d["api_name"] == "sample"]
        sampling.known = where.port, found["id"], len(found["inputs"]) - 1 - len(NAMES)
    return sampling.known[1:]


def unpacked(text):
    """Pixels and settings of a PNG."""
    image = Image.open(io.BytesIO(base64.b64decode(text)))
    return np.asarray(image), json.loads(image.text[KEY])


def expected(model, seed, label=None, **options):
    """The pixels of a picture that is sampled alone."""
    found = to_pixels(model.sample([seed], None if label is None else [label], **options).images[0])
    return found[..., 0] if found.shape[-1] == 1 else found


def until(true, seconds=10.0):
    """Wait for something."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.002)


def resident():
    """Bytes of memory that this process has in use."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
