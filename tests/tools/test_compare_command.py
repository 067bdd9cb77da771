"""`sfumato compare` as its users meet it."""

import json

import numpy as np
from compared import compared
from modelled import made
from PIL import Image

from sfumato.diffusion.images import read_settings
from sfumato.diffusion.measuring import Pixels
from sfumato.tools.cli import main

# the command


def test_the_command_as_its_user_meets_it(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = "train digits --steps 4 --batch 8 --backbone.width 8 --sampling_steps 4 --sample_every 0 --save_every 2 --keep 2 --out run"
    assert main(small.split()) == 0
    capsys.readouterr()
    ways = "compare run --x sampler=DDIM,GHVB --y steps=2,4"
    words = f"{ways} --count 8 --near 4 --fine_steps 20 --seeds 2 --reference_count 300".split()
    pixels = ["--extractor", "Pixels"]
    words += pixels
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "4 cells (2 by 2); 8 pictures each in each of 2 sets of seeds" in out
    folder = tmp_path / "run" / "compare" / "sampler-steps"
    found = json.loads((folder / "compare.json").read_text())
    assert found["looking"]["extractor"]["hash"]
    assert found["looking"]["data"]["n"] == 300
    assert found["looking"]["extractor"]["short"] + "@8" in out
    assert found["cells"][0]["settings"]["sampler"]["class_path"] == "sfumato.samplers.DDIM"
    page = (folder / "compare.html").read_text()
    assert found["command"] in page
    assert read_settings(folder / "compare.png")["compare"]["command"] == found["command"]
    assert main(words) == 0  # all there, written to the same place
    assert (
        "4 of them there already; 8 pictures each in each of 2 sets of seeds; 0 evaluations" in capsys.readouterr().out
    )
    assert not (tmp_path / "run" / "compare" / "sampler-steps-2").exists()
    # the first pictures are those of `sample`
    assert (
        main(
            [
                "sample",
                "run",
                "--seeds",
                "0-7",
                "--labels",
                "0-9",
                "--sampler",
                "DDIM",
                "--steps",
                "2",
                "--out",
                "pictures",
            ]
        )
        == 0
    )
    cells = [np.load(path) for path in (tmp_path / "run" / "compare" / "cells").glob("*.npz")]
    picture = np.asarray(Image.open(tmp_path / "pictures" / "seed-00000003.png"))
    assert any("pictures" in c.files and np.array_equal(c["pictures"][3, 0], picture) for c in cells)
    for wrong, said in (
        ("--x sampler=GHBV", "did you mean GHVB?"),
        ("--x steps=1..500", "--most 500"),
        ("--x steps=2 --seeds 0-15", "--first 0 --count 16"),
        ("--x checkpoint=3", "holds no checkpoint; allowed: 2, 4"),
        ("--x ema=0.1", "ema_lengths"),
        ("--x label=12", "no cell can be sampled"),
        ("--x steps=2 --show 9", "show is 9"),
        ("--x steps=2 --fine_steps -1", "fine_steps is -1"),
    ):
        assert main(["compare", "run", *pixels, *wrong.split()]) == 2, wrong
        assert said in capsys.readouterr().err, wrong


def test_a_pipeline_of_diffusers_is_compared_under_a_prompt(tmp_path, capsys, monkeypatch):
    import tiny_pipelines as tiny

    monkeypatch.chdir(tmp_path)
    tiny.sd().save_pretrained("pipe")
    words = ["compare", "pipe", "--x", "sampler=DDIM,UniPC", "--y", "guidance=CFG(3),Plain", "--prompts"]
    more = ["--steps", "2", "--count", "2", "--near", "1", "--fine_steps", "4", "--show", "2"]
    assert main([*words, "a red boat", *more]) == 0
    out = capsys.readouterr().out
    assert "8 evaluations" not in out
    folder = tmp_path / "compare" / "pipe" / "sampler-guidance"
    cells = json.loads((folder / "compare.json").read_text())["cells"]
    assert [cell["branches"].get("ref", 0) for cell in cells] == [2, 2, 0, 0]
    assert all(cell["measures"]["distance"]["mean"] > 0 for cell in cells)
    assert "prompt 'a red boat'" in json.loads((folder / "compare.json").read_text())["shared"]
    assert not list((tmp_path / "pipe").glob("compare*"))  # a model of somebody else's is not written into


def test_a_folder_of_pictures_is_a_reference(tmp_path):
    from sfumato.tools.compare.options import Compare
    from sfumato.tools.compare.what_looks import what_looks

    for i in range(5):
        Image.fromarray(np.full((16, 16), 40 * i, np.uint8)).save(tmp_path / f"{i}.png")
    options = Compare("nowhere", "steps=2", reference_path=str(tmp_path), extractor=Pixels())
    looking, _ = what_looks(options, made(), 6)
    assert (len(looking.data), looking.data.shape) == (5, (1, 8, 8))
    (a,), _, _ = compared("steps=2", looking=looking)
    assert a.measured["frechet"][0] > 0
    none, remarks = what_looks(Compare("nowhere", "steps=2", extractor=Pixels()), made(), 6)
    assert none.data is None
    assert "no real pictures were named" in remarks[0]
