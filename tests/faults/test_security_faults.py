"""Faults 51, 52 and 54 to 57: files that somebody else wrote, and a machine without a network."""

import ast
import hashlib
import io
import json
import os
import pickle
import re
import shutil
import socket
import struct
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sfumato.diffusion import ImageFolder, load
from sfumato.diffusion.images import KEY
from sfumato.schedules.parts import build, find_class
from sfumato.tools.cli import main

ROOT = Path(__file__).parents[2]
SOURCE = [
    p
    for name in ("diffusion", "guidance", "samplers", "schedules", "tools", "configs")
    for p in (ROOT / name).rglob("*.py")
]


class Canary:
    """Whoever unpickles it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def bombs(path):
    """The same canary as a pickle, as a file of torch.save, old and new, and as an array of objects; and as a tag of YAML."""
    canary = Canary(path)
    found = [pickle.dumps(canary), pickle.dumps(canary, protocol=0)]
    for zipped in (True, False):
        file = io.BytesIO()
        torch.save({"w": canary}, file, _use_new_zipfile_serialization=zipped)
        found.append(file.getvalue())
    file = io.BytesIO()
    np.save(file, np.array([canary], dtype=object), allow_pickle=True)
    tag = f'!!python/object/apply:builtins.open ["{path}", "w"]'
    return [*found, file.getvalue(), tag.encode(), f"backbone: {tag}".encode()]


def only_newest(run, folder):
    """A copy of a run with its newest checkpoint alone, so that nothing else can be fallen back to; returns that."""
    shutil.copytree(
        run, folder, ignore=lambda _, names: [n for n in names if n in ("tensorboard", "samples", "loss.png")]
    )
    *others, last = sorted((folder / "checkpoints").glob("step-*"))
    for other in others:
        shutil.rmtree(other)
    return last


@contextmanager
def forged(checkpoint, name, content):
    """A file of a run in place of another, for a while; with the hash that it has: a manifest stops damage, not a liar."""
    manifest = checkpoint / "manifest.json"
    path = checkpoint.parents[1] / name if name == "config.yaml" else checkpoint / name
    before = {p: p.read_bytes() for p in (path, manifest)}
    path.write_bytes(content)
    if path.parent == checkpoint and path != manifest:
        listed(manifest, name, content)
    yield
    for each, old in before.items():
        each.write_bytes(old)


def listed(manifest, name, content):
    """Enter a file in a manifest."""
    known = json.loads(manifest.read_text())
    known["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    manifest.write_text(json.dumps(known))


@pytest.mark.fault(51)
@pytest.mark.fault(57)
def test_a_canary_in_every_file_never_runs(a_run, tmp_path, capfd, monkeypatch, injected):
    """Also where the environment asks torch.load to unpickle, and where the hashes were forged to fit."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    monkeypatch.setattr(torch, "load", None)  # whoever asks for it fails otherwise than by a message
    canary, times = tmp_path / "canary", 0
    pictures = tmp_path / "pictures"
    assert main(["sample", str(a_run), "--seeds", "0", "--steps", "1", "--out", str(pictures)]) == 0
    out = tmp_path / "out"

    def refused(*argv):
        assert main([*map(str, argv)]) == 2
        said = capfd.readouterr().err
        assert "Traceback" not in said

    checkpoint = only_newest(a_run, tmp_path / "run")
    for number, content in enumerate(bombs(canary)):
        sample = ("sample", tmp_path / "run", "--seeds", "0", "--steps", "1", "--out", out)
        for name in ("model.safetensors", "ema.safetensors", "state.json", "manifest.json", "config.yaml"):
            with forged(checkpoint, name, content):
                refused(*sample, *(["--ema", "false"] if name.startswith("model") else []))
            times += 1
        file = tmp_path / f"{number}.json"
        file.write_bytes(content)
        run = ("sample", a_run, "--seeds", "0", "--out", out)
        refused(*run, "--filters", "Calibrated", "--filters.calibration", file)
        refused(*run, "--guidance", "LinearAdaptive", "--guidance.plan", file)
        refused("train", file, "--out", out)
        (tmp_path / "scheduler_config.json").write_bytes(content)
        assert main(["inspect", str(tmp_path / "scheduler_config.json"), "--out", str(tmp_path / "x.png")]) in (1, 2)
        # a picture's own settings, when a job is gone on with
        info = PngInfo()
        info.add_itxt(KEY, content.decode("latin-1"))
        Image.new("L", (8, 8)).save(pictures / "seed-00000000.png", pnginfo=info)
        refused("sample", a_run, "--seeds", "0", "--steps", "1", "--out", pictures, "--resume")
        # as data
        for name in ("x.png", "x.npy", "x.pt"):
            (tmp_path / f"data-{number}").mkdir(exist_ok=True)
            (tmp_path / f"data-{number}" / name).write_bytes(content)
        with pytest.raises((ValueError, OSError)):
            ImageFolder(str(tmp_path / f"data-{number}"), size=8, channels=1).batch(torch.tensor([0]))
        times += 8
    assert not canary.exists()
    pickle.loads(bombs(canary)[0])
    assert canary.exists(), "the canary is dead, so that it did not run says nothing"
    injected("a canary pickle in place of a file", times, 0)


@pytest.mark.fault(51)
@pytest.mark.fault(52)
def test_the_source_knows_no_way_to_unpickle(injected):
    """Nor to run code from a file: by the syntax tree, so that comments and tests of the words don't count."""
    forbidden = {
        "pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "torch.distributed.checkpoint",
        "torch.serialization",
    }  # fmt: skip
    # the parts of it that read and write safetensors; the others' metadata are a pickle
    harmless = {
        f"torch.distributed.checkpoint.{name}"
        for name in ("api", "hf_storage", "state_dict_loader", "state_dict_saver")
    }
    calls = {
        "torch.load", "numpy.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "yaml.UnsafeLoader",
        "yaml.FullLoader", "torch.jit.load", "torch.hub.load", "os.system", "os.popen",
    }  # fmt: skip
    last = {word.split(".")[-1] for word in calls}
    every = (*forbidden, *last, "np.load", "eval", "exec", "__import__", "weights_only", "allow_pickle")
    words = re.compile("|".join(rf"\b{re.escape(word)}\b" for word in every))
    for path in SOURCE:
        if not words.search(path.read_text()):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            module = (node.module or "") if isinstance(node, ast.ImportFrom) and not node.level else ""
            if module in harmless:
                continue
            for name in (*names, module, *(f"{module}.{name}" for name in names)):
                assert not any(name == word or name.startswith(f"{word}.") for word in forbidden | calls), (path, name)
            if isinstance(node, ast.Attribute) and node.attr in last:
                assert ast.unparse(node) not in calls, (path, ast.unparse(node))
            if (
                isinstance(node, ast.Call) and ast.unparse(node.func) == "np.load"
            ):  # of arrays of numbers, said every time
                assert ("allow_pickle", False) in [(k.arg, getattr(k.value, "value", None)) for k in node.keywords], (
                    path
                )
            if isinstance(node, ast.Call):
                assert getattr(node.func, "id", "") not in ("eval", "exec", "__import__"), path
                for keyword in node.keywords:
                    said = keyword.arg, getattr(keyword.value, "value", None)
                    assert said not in (("weights_only", False), ("allow_pickle", True), ("trust_remote_code", True)), (
                        path
                    )
    injected("a search of the source", len(SOURCE), 0)


@pytest.mark.fault(54)
def test_paths_lead_nowhere_else(a_run, tmp_path, capsys, monkeypatch, injected):
    """Names of files in a manifest, and class paths in a config."""
    outside = (a_run / "config.yaml").read_bytes()
    names = [
        "../../config.yaml",
        str(a_run / "config.yaml"),
        "x/../../../config.yaml",
        "a\0b",
        "%2e%2e%2fconfig.yaml",
        "..",
        "",
        ".",
    ]
    manifest = only_newest(a_run, tmp_path / "run") / "manifest.json"
    before = manifest.read_bytes()
    for name in names:
        listed(manifest, name, outside)
        assert main(["sample", str(tmp_path / "run"), "--seeds", "0", "--out", str(tmp_path / "out")]) == 2
        assert "is skipped" in capsys.readouterr().err
        manifest.write_bytes(before)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    classes = [
        "evil.Evil", "os.system", "builtins.open", "..", "../evil.Evil", "sfumato/../evil.Evil", "sfumato..evil.Evil", "/evil.Evil",
        "sfumato.\0", "%2e%2e%2fevil.Evil", "sfumato%2eevil.Evil", "sfumatoevil.Evil", "sfumato.diffusion.loading.torch",
        "sfumato.tools.cli.main", "sfumato.tools.bench.__main__.main", "sfumato.diffusion.loading.Path", "", ".", "sfumato", "evil",
    ]  # fmt: skip
    for path in classes:
        with pytest.raises(ValueError, match="class"):
            find_class(path)
        with pytest.raises(ValueError, match="class"):
            build({"backbone": {"class_path": path}})
    assert main(["train", "digits", "--guidance=evil.Evil", "--dry-run"]) == 2
    assert "outside Sfumato" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()
    commands = [
        ["train", "../../x"],
        ["train", "digits/../../x"],
        ["claims", "../x"],
        ["sample", "a\0b"],
        ["inspect", "%2e%2e%2f"],
    ]
    for argv in commands:
        assert main(argv) == 2
        assert "Traceback" not in capsys.readouterr().err
    injected("a path that leads elsewhere", len(names) + 2 * len(classes) + len(commands), 0)


def header(tensors, length=None):
    """The head of a safetensors file, whose length may be a lie."""
    text = json.dumps(tensors).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text


def tensor(shape, start, end):
    return {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}


BOMBS = {
    "a header of 2^60 bytes": struct.pack("<Q", 2**60) + b"{}",
    "a header of 2^64 - 1 bytes": struct.pack("<Q", 2**64 - 1) + b"{}",
    "a tensor of 1 TB": header({"w": tensor([2**38], 0, 2**40)}),
    "a tensor of 1 TB in 4 bytes": header({"w": tensor([2**38], 0, 4)}) + bytes(4),
    "overlapping tensors": header({"a": tensor([1], 0, 4), "b": tensor([1], 0, 4)}) + bytes(4),
    "a shape that overflows": header({"a": tensor([2**62, 8], 0, 0)}),
    "a tensor that ends before it begins": header({"a": tensor([1], 4, 0)}) + bytes(4),
    "a million nested lists": struct.pack("<Q", 10**6) + b"[" * 10**6,
    "nothing": b"",
    "a header of 90 MB of blanks": struct.pack("<Q", 90_000_000) + b'{"a":' + b" " * 89_999_994 + b"}",
}


@pytest.mark.fault(55)
def test_safetensors_bombs_are_refused_cheaply(a_run, tmp_path, injected):
    """Under 200 MB beyond what the process had, at its peak, all of them together; each in a line that names the checkpoint."""
    for number, content in enumerate(BOMBS.values()):
        checkpoint = only_newest(a_run, tmp_path / str(number))
        (checkpoint / "ema.safetensors").write_bytes(content)
        listed(checkpoint / "manifest.json", "ema.safetensors", content)
    script = (
        "import resource, sys\nfrom sfumato.diffusion import load\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "load(sys.argv[1])\nbefore = peak()\n"
        "for run in sys.argv[2:]:\n"
        "    try:\n        load(run)\n"
        "    except ValueError as error:\n        assert 'step-' in str(error), error\n"
        "    else:\n        raise AssertionError(run)\n"
        "print((peak() - before) / 1024)\n"
    )
    runs = [str(tmp_path / str(number)) for number in range(len(BOMBS))]
    done = subprocess.run(
        [sys.executable, "-c", script, str(a_run), *runs], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 200
    injected(f"a safetensors bomb ({float(done.stdout):.0f} MB more at the peak)", len(BOMBS), 0)


@pytest.mark.fault(55)
def test_what_else_is_nested_without_end(a_run, tmp_path, capsys, injected):
    """JSON and YAML of twenty thousand brackets, and a state that lacks everything."""
    deep = b"[" * 20_000
    checkpoint = only_newest(a_run, tmp_path / "run")
    cases = [(name, deep) for name in ("state.json", "manifest.json", "config.yaml")]
    for name, content in (*cases, ("state.json", b"[]"), ("state.json", b"{}")):
        with forged(checkpoint, name, content):
            assert main(["sample", str(tmp_path / "run"), "--seeds", "0", "--out", str(tmp_path / "out")]) == 2
        assert "Traceback" not in capsys.readouterr().err
    injected("nesting without end, or nothing at all", 5, 0)


COMMANDS = [
    [
        "train",
        "digits",
        "--steps",
        "2",
        "--batch",
        "8",
        "--backbone.width",
        "8",
        "--sampling_steps",
        "2",
        "--sample_every",
        "1",
    ],
    ["sample", "RUN", "--seeds", "0-1", "--steps", "2"],
    ["inspect", "digits", "--out", "RUN/x.png"],
    ["doctor"],
]


@pytest.mark.fault(56)
def test_nothing_looks_for_a_network(tmp_path, capsys, monkeypatch, injected):
    asked = []

    def no(*argv, **_):
        asked.append(argv)
        raise OSError("there is no network")

    class Blocked(socket.socket):
        def __init__(self, family=-1, *rest):
            if family in (-1, socket.AF_INET, socket.AF_INET6):
                no(family)
            super().__init__(family, *rest)

    monkeypatch.setattr(socket, "socket", Blocked)
    for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "create_connection"):
        monkeypatch.setattr(socket, name, no)
    for argv in (command for command in COMMANDS if command[0] != "inspect"):
        more = ["--out", str(tmp_path / "run")] if argv[0] == "train" else []
        assert main([word.replace("RUN", str(tmp_path / "run")) for word in argv] + more) == 0
    assert load(tmp_path / "run").sample([1], [1], steps=1).kept.all()
    assert asked == []
    injected("no network", len(COMMANDS), len(asked))


@pytest.mark.slow
@pytest.mark.fault(56)
def test_no_process_looks_for_a_network(tmp_path, injected):
    """From the first import on: each command in a process of its own, where making a socket or asking for a name fails and is noted."""
    (tmp_path / "sitecustomize.py").write_text(
        "import socket\n"
        f"def no(*argv, **_):\n    open({str(tmp_path / 'asked')!r}, 'a').write(repr(argv))\n    raise OSError('no network')\n"
        "class Blocked(socket.socket):\n    def __init__(self, family=-1, *rest, **more):\n"
        "        if family in (-1, socket.AF_INET, socket.AF_INET6):\n            no(family)\n"
        "        super().__init__(family, *rest, **more)\n"
        "socket.socket = Blocked\n"
        "for name in ('getaddrinfo', 'gethostbyname', 'gethostbyname_ex', 'gethostbyaddr', 'create_connection'):\n"
        "    setattr(socket, name, no)\n"
        f"open({str(tmp_path / 'blocked')!r}, 'a').write('.')\n"
    )
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    for argv in COMMANDS:
        more = ["--out", str(tmp_path / "run")] if argv[0] == "train" else []
        words = [word.replace("RUN", str(tmp_path / "run")) for word in argv] + more
        done = subprocess.run(
            [sys.executable, "-m", "sfumato.tools.cli", *words], env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert len((tmp_path / "blocked").read_text()) >= len(COMMANDS)
    assert not (tmp_path / "asked").exists()
    injected("no network, in processes of their own", len(COMMANDS), 0)
