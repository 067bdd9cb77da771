"""`sfumato demo` as its user meets it: what is refused before anything starts, where it listens, how it ends."""

import base64
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request

import pytest
from children import Child
from modelled import made

from sfumato.tools.cli import main
from sfumato.tools.command import parse
from sfumato.tools.demo.main import _gathered
from sfumato.tools.demo.options import Demo, is_loopback
from sfumato.tools.demo.passwords import NAME, Passwords, read_passwords
from sfumato.tools.demo.serving import check_open, listening, url_of
from sfumato.tools.demo.shelf import Entry
from sfumato.tools.demo.surroundings import surroundings


def fails(capsys, *argv):
    assert main(["demo", *map(str, argv)]) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


def given(*argv):
    return parse(_gathered([*map(str, argv)]), Demo, ("run",))[0]


def test_any_number_of_models_may_be_named():
    assert list(given().run) == []
    assert list(given("a", "b c", "--port", 1234, "d,e", "[f]", "--run", "g").run) == ["a", "b c", "d,e", "[f]", "g"]
    assert given("a", "--open", "b").open
    assert not given("--open", "false").open
    assert given("a", "--allow", "x", "--allow", "y").allow == ["x", "y"]
    assert list(given('["a"]', "1", "null").run) == ['["a"]', "1", "null"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--port", "0"], "port is 0; allowed: 1 to 65535"), (["--port", "x"], "port is 'x'"), (["--pictures", "0"], "pictures is 0"),
        (["--threads", "0"], "threads is 0"), (["--steps", "1e9.5"], "steps is '1e9.5'"), (["--host", "http://a/"], "host is 'http://a/'"),
        (["--prt", "1"], "did you mean port?"), (["--size", "0"], "size is 0"), (["--auth", "nowhere"], "can't be read: No such file"),
        (["--host", "0.0.0.0"], "give --auth FILE"), (["--host", "::"], "stay on 127.0.0.1"), (["--share", "true"], "share: unknown key"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)  # fmt: skip
def test_mistakes_are_found_before_anything_starts(argv, said, capsys, monkeypatch):
    monkeypatch.setattr(socket, "socket", None)
    assert said in fails(capsys, *argv)


def test_without_gradio_one_line_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert (
        fails(capsys)
        == "sfumato demo: the page is made with gradio, which is not installed; pip install 'sfumato[demo]'\n"
    )


def test_help_needs_no_gradio():
    code = "import sys\nfrom sfumato.tools.cli import main\nmain(['demo', '--help'])\nassert not {'gradio', 'uvicorn'} & set(sys.modules)\n"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "LOCALHOST"])
def test_addresses_of_this_machine_alone(host):
    assert is_loopback(host)
    check_open(host, Passwords({}))


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.168.0.1", "example.org", "localhost.example", "127.0.0.1.example", "2130706433", ""]
)
def test_addresses_that_others_reach(host):
    assert not is_loopback(host)
    with pytest.raises(ValueError, match="others can reach"):
        check_open(host, Passwords({}))
    check_open(host, Passwords({"anna": "long-enough"}))


def test_a_port_that_is_taken():
    with listening("127.0.0.1", None) as taken:
        port = taken.getsockname()[1]
        assert port >= 7860
        with pytest.raises(ValueError, match=f"port is {port}, which is taken on 127.0.0.1; give another"):
            listening("127.0.0.1", port)
        with listening("127.0.0.1", None) as other:
            assert other.getsockname()[1] > port
    with pytest.raises(ValueError, match="can't be listened on"):
        listening("203.0.113.1", 7999)
    assert url_of("0.0.0.0", 1) == "http://127.0.0.1:1/"
    assert url_of("::", 1) == "http://[::1]:1/"


def test_passwords_are_read_and_never_shown(tmp_path, monkeypatch):
    file = tmp_path / "users"
    file.write_text("anna:long-enough\n\n bernd:with:colons\n")
    users = read_passwords(str(file))

    def admits(said, scheme="Basic"):
        return users.admits(f"{scheme} {base64.b64encode(said.encode()).decode()}")

    assert admits("anna:long-enough")
    assert admits("bernd:with:colons", "basic")
    for wrong in ("anna:long-enougH", "anna:", "anna", ":long-enough", "anna:with:colons", "", "long-enough"):
        assert not admits(wrong)
    for wrong in (None, "", "Basic", "Basic !!", "Bearer x", "Basic " + "A" * 10**6, "Basic \u20ac"):
        assert not users.admits(wrong)
    assert "long" not in repr(users)
    for text, said in (
        ("anna", "line 1 is no user:password"), (":x", "line 1 is no user:password"), ("\na:short12", "line 2.*'a' has 7 characters"),
        ("a:12345678\na:12345678", "line 2: 'a' is there twice"), ("\n \n", "is empty"),
    ):  # fmt: skip
        file.write_text(text)
        with pytest.raises(ValueError, match=said) as found:
            read_passwords(str(file))
        assert "short12" not in str(found.value)
        assert "12345678" not in str(found.value)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="no text"):
        read_passwords(str(file))
    assert not read_passwords(None)
    monkeypatch.setenv(NAME, "anna:long-enough")
    assert read_passwords(None)


def test_the_surroundings_are_closed_and_leave_nothing(monkeypatch):
    monkeypatch.setenv("GRADIO_SHARE", "True")
    monkeypatch.setenv("GRADIO_ALLOWED_PATHS", "/")
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "True")
    monkeypatch.setenv("GRADIO_TEMP_DIR", "/before")
    before = dict(os.environ)
    with surroundings() as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        ours = {k: v for k, v in os.environ.items() if k.startswith("GRADIO_")}
        assert ours == {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": str(folder)}
        assert os.environ["HF_HUB_OFFLINE"] == "1"
        (folder / "x").write_text("x")
    assert not folder.exists()
    assert dict(os.environ) == before


ADDRESS = r"(http://127\.0\.0\.1:\d+/)  \(this machine only; Ctrl-C ends it\)"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_it_ends_in_one_line_and_leaves_no_folder(number, code, tmp_path, monkeypatch):
    from sfumato.tools.demo import app  # what the process below imports too, once for both

    assert app
    monkeypatch.setattr("sfumato.tools.demo.main._offered", lambda options: [Entry("tiny", made)])
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    log = tmp_path.with_suffix(".log")
    child = Child(lambda say: main(["demo", "--port", str(free())]), log)
    end = time.monotonic() + 30
    while not (url := re.search(ADDRESS, log.read_text() if log.exists() else "")):
        assert time.monotonic() < end
        assert not child.gone()
        time.sleep(0.02)
    assert log.read_text().startswith("offered: tiny")
    assert urllib.request.urlopen(url[1]).status == 200
    assert len(list(tmp_path.glob("sfumato-demo-*"))) == 1
    # an open stream, as of a page that somebody looks at, holds nothing up
    with urllib.request.urlopen(f"{url[1]}gradio_api/heartbeat/x") as stream:
        assert stream.readline() == b"data: ALIVE\n"
        child.kill(number)
        assert child.ended(20) == code
    lines = log.read_text().splitlines()
    assert lines[2:] == [f"sfumato demo: stopped by {number.name}; nothing is served any more"]
    assert not list(tmp_path.glob("sfumato-demo-*"))


def free():
    with listening("127.0.0.1", 0) as sock:
        return sock.getsockname()[1]
