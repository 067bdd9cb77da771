"""Faults 53, 54, 56, 57 and 59 to 62 as a visitor of the demo would inject them."""

import base64
import gc
import io
import json
import math
import os
import re
import socket
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from demoed import served
from modelled import made
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sfumato.diffusion.images import KEY
from sfumato.tools.cli import main
from sfumato.tools.demo.form import NAMES, Form
from sfumato.tools.demo.limits import Limits
from sfumato.tools.demo.shelf import Entry

API = "/gradio_api"
# what no answer may hold: folders of the machine, and words of a traceback
OURS = [
    str(Path(__file__).parents[2]), str(Path.home()) + "/", sys.prefix, "site-packages", "Traceback", 'File "', tempfile.gettempdir() + "/",
]  # fmt: skip


class Counted:
    """A model that says how often its network ran."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        model = made()

        def ran(*_):
            self.calls += 1

        model.denoiser.backbone.register_forward_pre_hook(ran)
        return model


@pytest.fixture(scope="module", name="ran")
def counted():
    return Counted()


@pytest.fixture(scope="module", name="page")
def a_page(ran):
    with served([Entry("tiny", ran, home=Path("/srv/secret/runs/tiny"))], Limits(upload=2**20)) as page:
        yield page


def events(page):
    """The handlers that a client may call by name: name -> (number, values as the page has them)."""
    config = json.loads(page.ask("GET", "/config")[2])
    values = {each["id"]: each["props"].get("value") for each in config["components"]}
    return {
        each["api_name"]: (each["id"], [values.get(i) for i in each["inputs"]])
        for each in config["dependencies"]
        if each.get("api_visibility") == "public" and each["api_name"]
    }


def every(page):
    """All of them, private ones too: number -> values."""
    config = json.loads(page.ask("GET", "/config")[2])
    values = {each["id"]: each["props"].get("value") for each in config["components"]}
    return {
        each["id"]: [values.get(i) for i in each["inputs"]] for each in config["dependencies"] if each["backend_fn"]
    }


def called(page, number, data, session="s", seconds=20):
    """What a handler came to: (whether it went well, what was said on the way, raw)."""
    words = {"data": data, "fn_index": number, "session_hash": session, "trigger_id": None, "event_data": None}
    status, _, body = page.say(f"{API}/queue/join", words)
    if status != 200:
        return False, body.decode()
    with socket.create_connection(("127.0.0.1", page.port), timeout=seconds) as line:
        line.sendall(f"GET {API}/queue/data?session_hash={session} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        found = b""
        end = time.monotonic() + seconds
        while b'"close_stream"' not in found and (more := line.recv(2**20)):
            found += more
            assert time.monotonic() < end, (
                f"never ended: {found[-300:]!r}"
            )  # a stream that hangs still says that it lives
    text = found.decode("utf-8", "replace")
    return '"success":true' in text[text.find('"process_completed"') :], text


def clean(text):
    """Whether an answer names nothing of the machine."""
    return not [word for word in OURS if word in text]


ABSURD = {
    "nan": math.nan, "true": True, "2.7": 2.7, "1e308": 1e308, "2^70": 2**70, "-1": -1, "nothing": None, "a list": [1, [2]],
    "a mapping": {"a": 1},
    "a text": "'; DROP", "inf": math.inf, "-0.0": -0.0, "10^400": 10**400, "empty": "", "long": "9" * 5000, "nul": "a\0b",
    "half": "\ud800",
    "turned": "\u202egnp", "path": "../../etc/passwd", "absolute": "/etc/passwd", "address": "http://evil.example/x",
    "quoted": "%2fetc%2fpasswd",
    "class": "os.system", "file": "LinearAdaptive(plan=secrets)", "html": "<img src=x onerror=alert(1)>", "false": False,
    "deep": [[[[[[[]]]]]]],
}  # fmt: skip
NUMBERS = {"model", "steps", "count", "scale", "interval"}
FINE = {("scale", "2.7"), ("scale", "-1"), ("scale", "-0.0")}


def filled(page, **changes):
    """The number of the handler that samples, and values for it: one picture in one step."""
    number, data = events(page)["sample"]
    form = Form(**{"steps": 1, "count": 1, "labels": "3", "seeds": "7", **changes})
    said = [list(v) if isinstance(v, tuple) else v for v in (getattr(form, name) for name in NAMES)]
    assert data[0] == "tiny", "the page's form is another one"
    return number, ["tiny", *said, *data[len(said) + 1 :]]


def still(page, ran):
    """How often the network ran, once nothing is at work any more."""
    before = -1
    while before != ran.calls:
        before = ran.calls
        page.running.stop_all()
        time.sleep(0.3)
    return before


def share(values, turn, parts):
    """One of so many parts of what there is, or all of it."""
    return list(values)[turn % parts :: parts]


@pytest.mark.fault(59)
@pytest.mark.parametrize("parts", [pytest.param(1, marks=pytest.mark.slow, id="all"), pytest.param(7, id="some")])
def test_absurd_values_of_every_field(page, ran, parts, injected):
    """By HTTP, values in each field of the form: refused in words before the network runs, or a value that the field allows."""
    number, good = filled(page)
    well, said = called(page, number, good)
    assert well, said[-600:]
    times = 0
    # what a number may not be is always refused; what a text may be is wide
    for place, name in enumerate(("model", *NAMES)):
        for kind, value in share(ABSURD.items(), place, 1 if name == "steps" else parts):
            if (name, kind) in FINE:
                continue
            before = ran.calls
            well, said = called(page, number, [*good[:place], value, *good[place + 1 :]])
            times += 1
            assert clean(said), (name, kind, said[-800:])
            assert not (well and name in NUMBERS), (name, kind, said[-300:])
            assert well or ran.calls == before, (name, kind)
    for wrong in (
        [],
        good[:-1],
        [good],
        {"0": 1},
        "x",
        None,
        3,
        [None] * len(good),
        [[]] * len(good),
        [{}] * len(good),
    ):
        before = ran.calls
        well, said = called(page, number, wrong)
        times += 1
        assert not well
        assert clean(said), said[-800:]
        assert ran.calls == before
    assert called(page, number, good)[0], "and the page is still there"
    injected("an absurd value in a field of the form", times, 0)


@pytest.mark.fault(59)
@pytest.mark.fault(61)
@pytest.mark.parametrize("parts", [pytest.param(1, marks=pytest.mark.slow, id="all"), pytest.param(27, id="some")])
def test_absurd_values_of_every_handler(page, parts, injected):
    """Those that no menu calls too; whatever they make of it, nothing hangs and nothing of the machine is said."""
    times = 0
    for number, data in every(page).items():
        for kind, value in share(ABSURD.items(), number, parts):
            place = times % max(1, len(data))
            given = [*data[:place], value, *data[place + 1 :]]
            _, said = called(page, number, given, f"h{number}")
            times += 1
            assert clean(said), (number, kind, said[-800:])
        if parts == 1 or number % 5 == 0:
            assert clean(called(page, number, [], f"h{number}")[1])
            times += 1
    bodies = [
        {}, [], 3, None, {"data": 1}, {"data": [], "fn_index": 10**9}, {"data": [], "fn_index": -1}, {"data": [], "fn_index": "0"},
        {"data": [], "fn_index": 0}, {"data": [], "fn_index": 0, "session_hash": ["x"]},
        {"data": [], "fn_index": 2**70, "session_hash": "x"}, {"data": [], "fn_index": 0, "session_hash": "../../x"},
        {"fn_index": None, "session_hash": None, "data": None},
    ]  # fmt: skip
    for words in bodies:
        for route in (
            "queue/join",
            "call/sample",
            "run/sample",
            "api/nothing",
            "call/nothing",
            "call/v2/sample",
            "cancel",
            "reset",
        ):
            status, _, body = page.say(f"{API}/{route}", words)
            times += 1
            assert clean(body.decode()), (route, words, body)
            assert status in (200, 400, 404, 422, 500, 503)
    injected("an absurd value in a handler, or a request that is none", times, 0)


@pytest.mark.fault(53)
def test_no_route_takes_a_checkpoint(page, injected):
    """By its bytes, whatever its name and kind, on every route that is there and many that are not."""
    file = io.BytesIO()
    torch.save({"w": torch.zeros(2)}, file)
    array = io.BytesIO()
    np.save(array, np.zeros(2))
    checkpoints = [
        b'\x40\x00\x00\x00\x00\x00\x00\x00{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(80) + bytes(4),
        b"\x80\x04\x95\x1c\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94\x8c\x06system\x94\x93\x94.", file.getvalue(), array.getvalue(),
        b"class_path: os.system\n", b"PK\x03\x04",
    ]  # fmt: skip
    times = 0
    for content in checkpoints:
        for name in ("model.safetensors", "model.pt", "config.yaml", "a.png"):
            head = f'--c\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\nContent-Type: image/png\r\n\r\n'.encode()
            for route in ("upload", "upload?upload_id=x", "component_server", "process_recording"):
                kind = "multipart/form-data; boundary=c"
                assert page.ask("POST", f"{API}/{route}", head + content + b"\r\n--c--\r\n", content_type=kind)[0] in (
                    404,
                    415,
                )
                times += 1
    assert not [path for path in page.folder.rglob("*") if path.is_file()], "something was kept"
    config = json.loads(page.ask("GET", "/config")[2])
    takers = [
        each
        for each in config["components"]
        if each["type"] in ("file", "uploadbutton", "video", "audio", "model3d", "fileexplorer")
    ]
    assert all(each["props"].get("file_types") == [".png"] for each in takers)
    injected("a checkpoint, or what looks like one", times, 0)


@pytest.mark.fault(54)
def test_names_that_are_paths_lead_nowhere(page, ran, tmp_path, injected):
    """Of models, of classes, of files."""
    names = [
        "../tiny", "/srv/secret/runs/tiny", "tiny/../../x", "tiny\0", "%2e%2e%2ftiny", "..", ".", "", "tiny/", "/etc/passwd",
        "runs/quickstart",
        "file:///etc/passwd", "~", "\\\\a\\b", "C:\\x", " tiny", "TINY", "tiny\n",
    ]  # fmt: skip
    before, times = still(page, ran), 0
    for number, data in ((n, d) for name, (n, d) in events(page).items() if d and name != "png_info"):
        if data[0] != "tiny":
            continue
        for name in names:
            well, said = called(page, number, [name, *data[1:]])
            times += 1
            assert not well, (number, name)
            assert clean(said), said[-600:]
    assert ran.calls == before
    link = page.folder / "link.png"
    link.symlink_to("/etc/passwd")
    files = [
        "/etc/passwd", "../../../etc/passwd", f"{page.folder}/../../etc/passwd", f"{page.folder}/link.png", "%2fetc%2fpasswd",
        "%252fetc%252fpasswd",
        f"{page.folder}%00.png", f"{page.folder}2/x", "http://evil.example/x", "http:/evil.example/x", "//evil.example/x", "~/x", "",
        "C:%5Cx",
        "/proc/self/environ", str(tmp_path), __file__,
    ]  # fmt: skip
    for name in files:
        for route in (f"{API}/file=", f"{API}/file/", "/file=", "/assets/", "/static/"):
            status, _, body = page.ask("GET", f"{route}{name}")
            times += 1
            assert status in (403, 404, 405)
            assert b"root:" not in body
            assert clean(body.decode())
    link.unlink()
    injected("a name that is a path", times, 0)


@pytest.mark.fault(60)
def test_uploads_have_limits_and_addresses_are_refused(page, injected):
    kind, times = "multipart/form-data; boundary=c", 0
    head = b'--c\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    with socket.create_connection(("127.0.0.1", page.port), timeout=20) as line:  # 60 MB that are never sent
        said = f"POST {API}/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: {60 * 2**20}\r\n\r\n"
        line.sendall(said.encode())
        assert b" 413 " in line.recv(200)
    for content, status in (
        (b"<html><script>x</script>", 415),
        (b"http://evil.example/x.png", 415),
        (b"\x89PNG\r\n\x1a\n" + bytes(2**21), 413),
    ):
        assert page.ask("POST", f"{API}/upload", head + content + b"\r\n--c--\r\n", content_type=kind)[0] == status
        times += 1
    asked, true = [], socket.getaddrinfo

    def noted(host, *rest, **more):
        asked.append(host)
        return true(host, *rest, **more)

    socket.getaddrinfo = noted
    try:
        for address in (
            "http://evil.example/x.png",
            "https://evil.example",
            "ftp://evil.example/x",
            "//evil.example/x",
            "file:///etc/passwd",
        ):
            file = {"path": address, "url": address, "meta": {"_type": "gradio.FileData"}, "orig_name": "x.png"}
            for number, data in every(page).items():
                for place in range(min(3, len(data) + 1)):
                    words = {"data": [*data[:place], file, *data[place + 1 :]], "fn_index": number, "session_hash": "u"}
                    status, _, body = page.say(f"{API}/queue/join", words)
                    assert status == 400
                    assert b"not uploaded here" in body
                    times += 1
            page.ask("GET", f"{API}/file={address}")
            page.ask("GET", f"{API}/proxy={address}")
            times += 2
    finally:
        socket.getaddrinfo = true
    assert not [host for host in asked if host not in ("127.0.0.1", "localhost")]
    injected("an upload that is too large, no PNG, or an address", times + 1, 0)


@pytest.mark.fault(56)
@pytest.mark.fault(57)
def test_it_starts_and_samples_without_a_lookup(injected, monkeypatch):
    """With every socket but those of loopback refused, and every question for a name noted; also where the environment asks for worse."""
    asked = []
    for name, value in {
        "GRADIO_ANALYTICS_ENABLED": "True", "GRADIO_SHARE": "True", "GRADIO_ALLOWED_PATHS": "/", "GRADIO_VIBE_MODE": "1",
        "HTTP_PROXY": "http://evil.example:1",
        "ALL_PROXY": "http://evil.example:1", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1", "GRADIO_MCP_SERVER": "True",
        "GRADIO_RUN_HISTORY": "True",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)

    def noted(name):
        true = getattr(socket, name)

        def ask(*given, **more):
            if given and given[0] not in ("127.0.0.1",):
                asked.append((name, given))
                raise OSError("there is no network")
            return true(*given, **more)

        return ask

    class Blocked(socket.socket):
        def connect(self, address):
            if self.family != socket.AF_UNIX and address[0] != "127.0.0.1":
                asked.append(("connect", address))
                raise OSError("there is no network")
            return super().connect(address)

        def sendto(self, *given):
            asked.append(("sendto", given[-1]))
            raise OSError("there is no network")

    monkeypatch.setattr(socket, "socket", Blocked)
    for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getfqdn"):
        monkeypatch.setattr(socket, name, noted(name))
    with served() as page:
        assert page.ask("GET", "/")[0] == 200
        assert not os.environ.get("GRADIO_SHARE")
        number, good = filled(page, steps=2)
        well, said = called(page, number, good)
        assert well, said[-600:]
        assert "data:image" in said
    assert asked == []
    injected("no network, and an environment that asks for one", 1, 0)


@pytest.mark.fault(61)
def test_no_answer_names_a_place_of_the_machine(page, ran, injected, capfd):
    """What every route says, and what a handler says that breaks in each way."""
    times = 0
    paths = [
        "/", "/config", "/theme.css", "/robots.txt", "/manifest.json", f"{API}/info", f"{API}/app_id", f"{API}/startup-events",
        "/nothing",
        f"{API}/queue/status", f"{API}/upload_progress?upload_id=x", "/assets/x",
        "/static/x",
        f"{API}/queue/data", f"{API}/login_check", "/svelte/x", f"{API}/file=x", f"{API}/info?all_endpoints=true", "/?__theme=x",
        "/config?x=1",
        "/?deep_link=../../x", "/?view=api",
    ]  # fmt: skip
    for path in paths:
        said = page.ask("GET", path)[2].decode("utf-8", "replace")
        times += 1
        assert clean(said), (path, [word for word in OURS if word in said])
        assert "/srv" not in said
    number, good = filled(page)
    errors = [
        ValueError("can't read /srv/secret/runs/x.json"), OSError(2, "No such file", "/srv/secret/x"),
        RuntimeError("/srv/secret/x.so broke"),
        KeyError("/srv/secret"), MemoryError(), FloatingPointError("nan in /srv/secret/x"), UnicodeDecodeError("utf-8", b"/srv/secret",
        0, 1, "x"),
        AssertionError("/srv/secret"), ImportError("no /srv/secret/x", path="/srv/secret/x"), ZeroDivisionError(),
        RecursionError("/srv/secret"),
    ]  # fmt: skip
    assert called(page, number, good)[0]
    # every model that is loaded anywhere in this process, since other tests may have left theirs
    networks = [each.model.denoiser.backbone for each in gc.get_objects() if type(each).__name__ == "Loaded"]
    before = [network.forward for network in networks]
    for error in errors:

        def breaks(*_, error=error, **__):
            raise error

        for network in networks:
            network.forward = breaks
        well, said = called(page, number, good)
        times += 1
        assert not well
        assert "/srv" not in said, said[-600:]
        assert clean(said), said[-600:]
    for network, forward in zip(networks, before, strict=True):
        network.forward = forward
    assert called(page, number, good)[0], "the server is still there"
    assert "/srv/secret" in capfd.readouterr().err, "its own log says where"
    injected("an error whose message is a path, or a route that is asked", times, 0)


@pytest.mark.fault(62)
def test_open_to_others_without_a_password(injected, capsys, tmp_path, monkeypatch):
    """Refused before a socket is made; with one, every route asks for it."""
    short = tmp_path / "short"
    short.write_text("anna:1234567\n")
    hosts = [
        "0.0.0.0",
        "::",
        "192.168.1.2",
        "example.org",
        "0",
        "127.0.0.1.nip.io",
        "2130706433",
        "localhost.localdomain",
    ]
    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", None)
        for host in hosts:
            assert main(["demo", "--host", host]) == 2
            assert "give --auth FILE" in capsys.readouterr().err
            assert main(["demo", "--host", host, "--auth", str(short)]) == 2
            assert "allowed: 8 and more" in capsys.readouterr().err
    with served(users={"anna": "long-enough"}, host="0.0.0.0") as page:
        word = base64.b64encode(b"anna:long-enough").decode()
        for method, path in (
            ("GET", "/"),
            ("GET", "/config"),
            ("POST", f"{API}/queue/join"),
            ("GET", f"{API}/info"),
            ("GET", f"{API}/heartbeat/x"),
        ):
            assert page.ask(method, path)[0] == 401
        assert page.ask("GET", "/config", Host="demo.example:80", Authorization=f"Basic {word}")[0] == 200
    injected("an address that others reach, without a password", 2 * len(hosts), 0)


@pytest.mark.fault(54)
@pytest.mark.fault(59)
def test_settings_within_a_picture_are_text(page, ran, injected):
    """A PNG whose settings name files and classes fills the form at most; nothing is opened, imported or run."""
    number, data = events(page)["png_info"]
    before, times = still(page, ran), 0
    for settings in (
        '{"sampler": "os.system"}',
        "[" * 5000,
        "{}",
        "null",
        '{"steps": NaN}',
        "\ud83d",
        '{"prompt": "\\ud83d"}',
        '{"model": "/etc/passwd"}',
        "x" * 10**5,
    ):
        file, info = io.BytesIO(), PngInfo()
        info.add_itxt(KEY, settings.encode("utf-8", "replace").decode())
        Image.new("L", (8, 8)).save(file, format="PNG", pnginfo=info)
        head = b'--c\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        body = head + file.getvalue() + b"\r\n--c--\r\n"
        status, _, said = page.ask("POST", f"{API}/upload", body, content_type="multipart/form-data; boundary=c")
        assert status == 200
        sent = {"path": json.loads(said)[0], "meta": {"_type": "gradio.FileData"}, "orig_name": "a.png"}
        text = called(page, number, [sent, *data[1:]])[1].replace(str(page.folder), "")
        times += 1
        assert not re.search(r"/etc/(?!passwd)|Traceback|site-packages", text), text[-600:]
    assert ran.calls == before
    injected("a picture whose settings are none", times, 0)
