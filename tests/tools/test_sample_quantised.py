"""`sfumato sample --quantize` as its user meets it."""

import json
import shlex

import pytest
from PIL import Image

from sfumato.diffusion import load
from sfumato.diffusion.images import read_settings
from sfumato.diffusion.quantise import quantised
from sfumato.guidance import CFG
from sfumato.tools.cli import main

SMALL = shlex.split(
    "--backbone DiT --backbone.channels 1 --backbone.size 8 --backbone.num_classes 10 --backbone.width 32 --backbone.depth 1"
    " --backbone.heads 2 --steps 4 --batch 8 --sampling_steps 4 --sample_every 0 --save_every 4 --lr 1e-2"
)


@pytest.fixture(scope="module", name="run")
def a_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "small"
    assert main(["train", "digits", *SMALL, "--out", str(folder)]) == 0
    return folder


def test_the_distance_is_told_and_pictures_say_that_they_are_quantised(run, capsys, tmp_path):
    out = tmp_path / "pictures"
    asked = ["sample", str(run), "--seeds", "3,4", "--labels", "7", "--guidance.scale", "2", "--out", str(out)]
    capsys.readouterr()
    assert main([*asked, "--quantize", "int8"]) == 0
    (line,) = [v for v in capsys.readouterr().out.splitlines() if v.startswith("quantised")]
    assert line.startswith("quantised (int8, 4 linear layers): network's output off by 0.")
    assert "2 pictures by 0.0" in line
    settings = read_settings(out / "seed-00000003.png")
    assert settings["quantize"]["kind"] == "int8"
    # the picture is that of the Python function
    model = quantised(load(run), "int8")
    again = model.sample([3, 4], [7, 7], guidance=CFG(2.0))
    assert settings["quantize"] == json.loads(json.dumps(again.settings["quantize"]))
    again.save(tmp_path / "again")
    pixels = [Image.open(folder / "seed-00000003.png").tobytes() for folder in (tmp_path / "again", out)]
    assert pixels[0] == pixels[1]
    # and no picture of the network in full precision is mixed with them
    assert main([*asked, "--resume"]) == 2
    assert "quantize" in capsys.readouterr().err


def test_a_kind_that_is_none_is_refused(run, capsys):
    assert main(["sample", str(run), "--seeds", "0", "--quantize", "int4"]) == 2
    assert "int8_static" in capsys.readouterr().err


def test_static_ranges_do_not_depend_on_how_many_pictures_are_asked_for(tmp_path, capsys):
    folder, words = tmp_path / "run", tmp_path / "words.txt"
    small = "--steps 2 --warmup 1 --batch 4 --backbone.width 32 --backbone.depth 1 --backbone.heads 2 --sampling_steps 2 --sample_every 0"
    assert main(["train", "digits-text", *shlex.split(small), "--tracker", "null", "--out", str(folder)]) == 0
    words.write_text("zero\none\ntwo\n")
    asked = ["sample", str(folder), "--quantize", "int8_static"]
    assert main([*asked, "--seeds", "0", "--out", str(tmp_path / "no")]) == 2
    assert "give --prompts" in capsys.readouterr().err
    for seeds in ("0", "0-3"):
        assert (
            main(
                [*asked, "--prompts", str(words), "--strict", "true", "--seeds", seeds, "--out", str(tmp_path / seeds)]
            )
            == 0
        )
    one, four = (read_settings(tmp_path / seeds / "seed-00000000.png") for seeds in ("0", "0-3"))
    assert one["quantize"] == four["quantize"]
    assert one["quantize"]["ranges"]["prompts"] == ["zero", "one", "two"]
    pixels = [Image.open(tmp_path / seeds / "seed-00000000.png").tobytes() for seeds in ("0", "0-3")]
    assert pixels[0] == pixels[1]
