"""Errors as visitors see them: no path of the machine, and everything else as it was."""

import time

import gradio as gr
import pytest
import torch

from sfumato.tools.demo.told import readable, told

PATHS = [
    ("/home/anna/runs/x/config.yaml can't be read", "config.yaml can't be read"),
    ("can't be read: '/home/my name/a b.json'; give one", "can't be read: 'a b.json'; give one"),
    ("no /home/my name/a.json here", "no a.json here"),
    ("[Errno 2] No such file or directory: '/srv/x'", "[Errno 2] No such file or directory: 'x'"),
    (r"C:\Users\Anna Smith\x.yaml is gone", "x.yaml is gone"),
    (r"'C:\\Users\\anna\\x.yaml' is gone", "'x.yaml' is gone"),
    (r"\\server\share\x.png", "x.png"),
    ('File "/usr/lib/python3/x.py", line 3', 'File "x.py", line 3'),
    ("file:///etc/passwd", "passwd"),
    ("~/x/y.txt and ~anna/z", "y.txt and z"),
    ("run=/srv/runs/a, (/srv/b) [/srv/c]", "run=a, (b) [c]"),
    ("../../etc/passwd and ./x", "passwd and x"),
    ("runs/quickstart/checkpoints is empty", "checkpoints is empty"),
    ("runs/config.yaml is empty", "config.yaml is empty"),
    ("root is '/'", "root is '…'"),
    ("checkpoint: /a/b/step-10: damaged", "checkpoint: step-10: damaged"),
]
KEPT = [
    "sampler: DDIM(eta=1) / 3", "0 <= low <= high, in sigma / alpha", "DDIM(eta=1)/3", "1/2 and 3/4", "and/or", "image/png",
    "sfumato.samplers.DDIM is outside Sfumato", "see https://example.org/a/b?c=d for more", "step 3/20", "N/A", "4..32..4", "12:30",
    "guidance.against is 'ref'; allowed: [1, 2]", "scale is nan; allowed: numbers from -100 to 100", "a\\b", "x/(y/z)",
]  # fmt: skip


@pytest.mark.parametrize(("said", "left"), PATHS, ids=[str(i) for i in range(len(PATHS))])
def test_of_a_path_the_last_name_stays(said, left):
    assert readable(ValueError(said)) == left


@pytest.mark.parametrize("said", KEPT, ids=[str(i) for i in range(len(KEPT))])
def test_what_is_no_path_stays(said):
    assert readable(ValueError(said)) == said


def test_messages_that_are_none_or_without_end():
    class Silent(ValueError):
        def __str__(self):
            return str(10**5000)

    assert readable(Silent()) == "Silent"
    assert readable(ValueError("a\ud800b")) == "a?b"
    assert len(readable(ValueError("/a" * 10**6))) < 1600
    assert len(readable(ValueError("a b/" * 10**6))) < 1600


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("x is <b>/a/b</b>"), "x is &lt;b&gt;b&lt;/b&gt;"),
        (FloatingPointError("not finite"), "not finite"),
        (MemoryError(), "not enough memory"),
        (torch.OutOfMemoryError("CUDA out of memory at /a/b"), "not enough memory"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory"),
            "not enough memory",
        ),
        (OSError(2, "No such file", "/a/b"), "The server failed at this"),
        (KeyError("/a/b"), "The server failed at this"),
        (gr.Error("as it was"), "as it was"),
    ],
    ids=range(8),
)
@pytest.mark.parametrize("stream", [False, True])
def test_each_kind_has_its_words(error, said, stream, capsys):
    def once(value):
        raise error

    def generator(value):
        yield 1
        raise error

    handler = told(generator if stream else once)
    with pytest.raises(gr.Error) as found:
        list(handler(0)) if stream else handler(0)
    assert said in found.value.message
    assert "/a" not in found.value.message
    # what is hidden from the visitor is in the server's log
    assert ("Traceback" in capsys.readouterr().err) == ("failed at this" in said)


@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_is_no_failure_goes_through(ending):
    @told
    def once():
        raise ending

    with pytest.raises(ending):
        once()


def test_a_closed_stream_closes_the_handler():
    closed = []

    @told
    def stream():
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    going = stream()
    assert next(going) == 1
    going.close()
    assert closed == [True]


def test_what_is_said_can_be_sent():
    said = ("a\ud800", [{"value\udfff": ["\ud83d"], "n": 1}], None, ("é😀", b"x"))
    assert told(lambda: said)() == ("a?", [{"value?": ["?"], "n": 1}], None, ("é😀", b"x"))

    @told
    def stream():
        yield said[0]

    assert list(stream()) == ["a?"]


@pytest.mark.parametrize("piece", ["a-", "aa.", "a+", "/a b", "a/", "C:\\", "'/a", "a://"])
def test_long_words_are_read_at_once(piece):
    """Whose every sign began a search of its own once, to the end of the text: half a second for 6,000 of them."""
    began = time.process_time()
    readable(ValueError(piece * 50_000 + "!"))
    assert time.process_time() - began < 5  # quadratic, it would be minutes
