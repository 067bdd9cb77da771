"""What stands in front of the page, asked by bytes on a socket: what it refuses, what it lets through, and what it adds."""

import base64
import hashlib
import io
import json
import re
import socket
import time

import pytest
from demoed import served
from PIL import Image

from sfumato.tools.demo.guarded_bodies import JSON, PIXELS
from sfumato.tools.demo.limits import Limits

LIMIT = 20_000
API = "/gradio_api"


@pytest.fixture(scope="module", name="page")
def a_page():
    with served(limits=Limits(upload=LIMIT)) as page:
        yield page


def png(size=(4, 4)):
    file = io.BytesIO()
    Image.new("L", size).save(file, format="PNG")
    return file.getvalue()


def form(content, name="a.png", field="files", more=b""):
    head = (
        f'--cut\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\nContent-Type: image/png\r\n\r\n'
    )
    return head.encode() + content + b"\r\n" + more + b"--cut--\r\n"


def uploaded(page, body, **headers):
    return page.ask("POST", f"{API}/upload", body, content_type="multipart/form-data; boundary=cut", **headers)


def test_the_page_comes_with_headers_and_hashes_of_its_scripts(page):
    status, headers, body = page.ask("GET", "/", accept_encoding="br, gzip")
    assert status == 200
    assert (headers["x-content-type-options"], headers["referrer-policy"], headers["x-frame-options"]) == (
        "nosniff",
        "no-referrer",
        "DENY",
    )
    assert "server" not in headers
    rules = dict(rule.strip().split(" ", 1) for rule in headers["content-security-policy"].split(";"))
    assert rules["default-src"] == "'none'"
    assert "unsafe-inline" not in rules["script-src"]
    for said in rules.values():  # nothing from elsewhere
        assert all(each.startswith("'") or each in ("data:", "blob:") for each in said.split())
    scripts = re.findall(rb"<script(?![^>]*src)[^>]*>(.*?)</script>", body, re.DOTALL)
    assert scripts
    for each in scripts:
        assert f"'sha256-{base64.b64encode(hashlib.sha256(each).digest()).decode()}'" in rules["script-src"]
    # neither does the page name a place that a browser would fetch from
    assert not re.findall(rb'<(?:script|link|img|iframe)[^>]+(?:src|href)="(?:https?:)?//', body)


def test_every_answer_has_the_headers(page):
    for path in ("/config", "/theme.css", f"{API}/info", "/nothing", f"{API}/file=/x", "/assets/nothing.js"):
        _, headers, _ = page.ask("GET", path)
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["x-content-type-options"] == "nosniff"


CLOSED = [
    "/gradio_api/proxy=https://a.hf.space/x", "/gradio_api/proxy=http://127.0.0.1/", "/gradio_api/openapi.json", "/monitoring",
    "/monitoring/summary", "/monitoring/x", "/login", "/logout", "/gradio_api/token", "/gradio_api/dev/reload", "/gradio_api/runs",
    "/gradio_api/run-history/buckets", "/gradio_api/deep_link?session_hash=x", "/gradio_api/vibe-code", "/gradio_api/file/etc/passwd",
    "/gradio_api/custom_component/x/client/x/y", "/gradio_api/stream/a/b/c/playlist.m3u8", "/pwa_icon", "/docs", "/openapi.json",
    "/static/../../x", "/assets/..%2f..%2fx", "/svelte/%2e%2e/x", "//a", "/gradio_api/mcp", "/gradio_api/profiling/traces",
]  # fmt: skip


@pytest.mark.parametrize("path", CLOSED)
def test_what_nobody_needs_is_not_there(page, path):
    status, _, body = page.ask("GET", path)
    assert status in (403, 404)
    assert b"/tmp" not in body


@pytest.mark.parametrize(
    "name", ["stream/x", "component_server", "process_recording", "vibe-edit", "undo-vibe-edit", "run-history/connect"]
)
def test_nor_is_what_does_something(page, name):
    assert page.say(f"{API}/{name}", {"data": []})[0] == 404


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
def test_other_methods_are_refused(page, method):
    assert page.ask(method, "/")[0] == 405


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:80",
        "127.0.0.1.evil.example",
        "192.168.0.1",
        "",
        "localhost.evil",
        "0.0.0.0",
        "[::1",
    ],
)
def test_a_page_by_another_name_is_refused(page, host):
    """DNS rebinding: the name leads here, and the browser would take the answer for that page's own."""
    assert page.ask("GET", "/config", Host=host)[0] in (400, 403)
    assert page.say(f"{API}/queue/join", {"data": []}, Host=host)[0] in (400, 403)


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:7860", "LOCALHOST", "127.1.2.3"])
def test_names_of_this_machine_are_known(page, host):
    assert page.ask("GET", "/config", Host=host)[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"}, {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"}, {"Origin": ""}, {"Origin": "http://127.0.0.1"},
        {"Origin": "http://[::1"},
    ],
    ids=range(8),
)  # fmt: skip
def test_other_pages_may_not_say_anything(page, headers):
    assert page.say(f"{API}/queue/join", {"data": [], "session_hash": "x", "fn_index": 0}, **headers)[0] == 403


def test_the_page_itself_may(page):
    answer = page.say(
        f"{API}/cancel", {"session_hash": "x", "fn_index": 0, "event_id": "y"}, Origin=page.url.rstrip("/")
    )
    assert answer[0] == 200


FILES = [
    {"path": "http://evil.example/x.png"}, {"path": "https://evil.example/x.png"}, {"path": "ftp://evil.example/x"}, {"path": "//evil/x"},
    {"path": "file:///etc/passwd"}, {"path": "\\\\evil\\x"}, {"path": "/etc/passwd"}, {"path": "../../etc/passwd"}, {"path": "x.png"},
    {"path": "FOLDER/../../etc/passwd"}, {"path": "FOLDER/x\0.png"}, {"path": None, "url": "http://evil.example/x.png"},
    {"path": "FOLDER/x.png", "url": "http://evil.example/x.png"}, {"path": "FOLDER/x.png", "url": "//evil.example/x.png"},
    {"path": "FOLDER/x.png", "url": "javascript:x"}, {"path": "FOLDER/x.png", "url": ["http://evil.example"]}, {"path": ["http://a/x"]},
    {"path": "FOLDER/x.png", "url": "HERE/gradio_api/file=/etc/passwd"}, {"path": 3}, {"path": ""}, {"meta": {"_type": "gradio.FileData"}},
    {"url": "HERE/gradio_api/file=http://evil.example"}, {"path": "FOLDER/link.png"}, {"path": "%2fetc%2fpasswd"}, {"path": "FOLDER2/x"},
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(FILES)))
@pytest.mark.parametrize("route", ["queue/join", "call/sample", "run/sample", "api/sample", "call/v2/sample"])
def test_files_that_were_not_uploaded_are_refused(page, number, route):
    """At any depth of what is said, whatever the handler takes."""
    link = page.folder / "link.png"
    if not link.is_symlink():
        link.symlink_to("/etc/passwd")
    words = json.dumps(FILES[number]).replace("FOLDER", str(page.folder)).replace("HERE", page.url.rstrip("/"))
    file = {"meta": {"_type": "gradio.FileData"}, **json.loads(words)}
    for data in ([file], [[{"x": [file]}]], [{"image": file}]):
        status, _, body = page.say(f"{API}/{route}", {"data": data, "session_hash": "s", "fn_index": 0})
        assert (status, b"was not uploaded here" in body) == (400, True)


def test_only_json_is_said(page):
    body = json.dumps({"data": [], "session_hash": "x", "fn_index": 0})
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        assert page.ask("POST", f"{API}/queue/join", body, content_type=kind)[0] == 415
    assert page.ask("POST", f"{API}/queue/join", body)[0] == 415
    for wrong in (b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"data": 1' + b"0" * 5000 + b"}", b"{'a': 1}"):
        status, _, said = page.ask("POST", f"{API}/queue/join", wrong, content_type="application/json")
        assert (status, said) == (400, b'{"detail": "this is no JSON"}')


def test_halves_of_characters_are_refused(page):
    """An answer that names one can't be written as JSON, so whoever asked would wait for ever."""
    for half in ('"\\ud800"', '{"a": ["\\udfff x"]}', '{"\\ud83d": 1}'):
        body = f'{{"data": [{half}], "session_hash": "x", "fn_index": 0}}'
        status, _, said = page.ask("POST", f"{API}/queue/join", body, content_type="application/json")
        assert (status, b"half of a character" in said) == (400, True)
    whole = '{"data": ["\\ud83d\\ude00"], "session_hash": "x", "fn_index": 1000000}'
    assert b"half" not in page.ask("POST", f"{API}/queue/join", whole, content_type="application/json")[2]


def raw(page, head, pieces=(), pause=0.0):
    """Bytes sent as they are; returns the status, and how many were taken."""
    taken = 0
    with socket.create_connection(("127.0.0.1", page.port), timeout=20) as line:
        line.sendall(head)
        try:
            for piece in pieces:
                line.sendall(piece)
                taken += len(piece)
                time.sleep(pause)
        except OSError:  # closed by the server
            pass
        try:
            return int([*line.recv(4096).split(b" "), b"", b"0"][1]), taken
        except OSError:
            return 0, taken


def test_what_is_too_long_is_not_read(page):
    head = f"POST {API}/%s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: %s\r\n%s\r\n\r\n"
    for route, kind, most in (
        ("queue/join", "application/json", JSON),
        ("upload", "multipart/form-data; boundary=cut", LIMIT),
    ):
        # by what it says of its length, without a byte of it
        assert raw(page, (head % (route, kind, f"Content-Length: {60 * 2**20}")).encode()) == (413, 0)
        # and where it does not say, of 60 MB no more than the sockets hold
        piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        status, taken = raw(
            page, (head % (route, kind, "Transfer-Encoding: chunked")).encode(), (piece for _ in range(960)), 0.0005
        )
        assert status in (413, 0)
        assert taken < most + 20 * 2**20
        for length in ("-1", "1e3", "9" * 30, "0x10"):
            assert raw(page, (head % (route, kind, f"Content-Length: {length}")).encode())[0] in (400, 413)
    assert page.ask("GET", "/config")[0] == 200


def test_a_head_without_end_is_refused(page):
    assert raw(page, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 2**18)[0] in (400, 431, 0)
    assert raw(page, b"GET /config HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n")[0] == 400
    assert raw(page, b"GET /config HTTP/1.1\r\n\r\n")[0] == 400
    assert raw(page, b"GET /config HTTP/1.0\r\n\r\n")[0] == 403


def test_a_picture_is_taken_and_handed_back(page):
    status, _, body = uploaded(page, form(png()))
    assert status == 200
    (path,) = json.loads(body)
    assert path.startswith(str(page.folder))
    status, headers, content = page.ask("GET", f"{API}/file={path}")
    assert (status, content) == (200, png())
    assert headers["content-security-policy"].startswith("default-src 'none'")
    file = {"path": path, "url": f"{page.url}gradio_api/file={path}", "meta": {"_type": "gradio.FileData"}}
    status, _, body = page.say(f"{API}/queue/join", {"data": [file], "session_hash": "s", "fn_index": 10**6})
    assert b"was not uploaded here" not in body
    assert status != 400 or b"/" not in body


NO_PICTURES = {
    "a pickle": b"\x80\x04\x95\x1c\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94\x8c\x06system\x94\x93\x94.",
    "a zip of torch.save": b"PK\x03\x04" + bytes(60), "safetensors": b"\x02\x00\x00\x00\x00\x00\x00\x00{}", "html": b"<script>x</script>",
    "svg": b"<svg onload=x>", "jpeg": b"\xff\xd8\xff\xe0" + bytes(60), "gif": b"GIF89a" + bytes(60), "nothing": b"",
    "a head of a PNG": b"\x89PNG\r\n\x1a\n", "a PNG after something": b"x" + png(), "no IHDR": b"\x89PNG\r\n\x1a\n" + bytes(40),
    "an address": b"http://evil.example/x.png",
}  # fmt: skip


@pytest.mark.parametrize("kind", NO_PICTURES)
@pytest.mark.parametrize("name", ["a.png", "model.safetensors"])
def test_what_is_no_png_is_refused(page, kind, name):
    assert uploaded(page, form(NO_PICTURES[kind], name))[0] == 415


def test_forms_that_are_none_are_refused(page):
    good = form(png())
    no_file = b'--cut\r\nContent-Disposition: form-data; name="files"\r\n\r\nx\r\n--cut--\r\n'
    second = good[: -len(b"--cut--\r\n")] + form(png())
    for body in (b"", b"--cut--\r\n", good[:40], second, form(png(), field="x"), no_file):
        assert uploaded(page, body)[0] == 400
    assert page.ask("POST", f"{API}/upload", good, content_type="multipart/form-data")[0] == 400
    assert page.ask("POST", f"{API}/upload", good, content_type="image/png")[0] == 415


@pytest.mark.parametrize(
    "name",
    [
        "../a.png",
        "/etc/a.png",
        "a/b.png",
        "..\\a.png",
        "C:a.png",
        "%2e%2e%2fa.png",
        "a\x00.png",
        ".a.png",
        "",
        "x" * 300 + ".png",
        "..",
    ],
)
def test_names_that_lead_elsewhere_are_refused(page, name):
    assert uploaded(page, form(png(), name))[0] == 400
    assert not [p for p in page.folder.rglob("*") if p.is_file() and not p.is_symlink() and p.name not in ("a.png",)]


def test_pictures_that_are_too_large_are_refused(page):
    assert uploaded(page, form(png() + bytes(LIMIT)))[0] == 413
    bomb = bytearray(png())
    bomb[16:24] = (30_000).to_bytes(4, "big") * 2
    assert PIXELS < 30_000**2
    assert uploaded(page, form(bytes(bomb)))[0] == 413


def test_passwords_are_asked_for_everywhere():
    """And when it ends, whatever was at work is told to stop."""
    with served(users={"anna": "long-enough", "bernd": "also:long:enough"}) as page:
        at_work = page.running.begin("somebody", "sample")
        for method, path in (
            ("GET", "/"), ("GET", "/config"), ("GET", "/theme.css"), ("GET", "/assets/x.js"), ("GET", f"{API}/heartbeat/x"), ("HEAD", "/"),
            ("GET", f"{API}/startup-events"), ("GET", f"{API}/info"), ("GET", f"{API}/file=/x"), ("POST", f"{API}/cancel"),
            ("POST", f"{API}/reset"), ("POST", f"{API}/queue/join"), ("POST", f"{API}/upload"), ("GET", "/login"), ("GET", "/nothing"),
            ("POST", "/login"), ("GET", f"{API}/queue/data?session_hash=x"), ("GET", "/robots.txt"), ("GET", f"{API}/call/sample/x"),
        ):  # fmt: skip
            status, headers, _ = page.ask(method, path)
            assert (status, headers["www-authenticate"][:5]) == (401, "Basic"), path

        def said(user):
            return page.ask("GET", "/config", Authorization="Basic " + base64.b64encode(user.encode()).decode())[0]

        assert said("anna:long-enough") == said("bernd:also:long:enough") == 200
        began = time.monotonic()
        assert said("anna:long-enougH") == 401
        assert time.monotonic() - began > 0.9, "who guesses waits"
    assert at_work.stopped
    assert not page.folder.exists()
    with pytest.raises(ConnectionRefusedError):
        page.ask("GET", "/")
