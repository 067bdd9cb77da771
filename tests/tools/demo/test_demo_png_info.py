"""What a PNG says of itself: ours, others', and files that mean harm."""

import io
import json
import struct
import zlib

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sfumato.tools.demo.encoded import encode
from sfumato.tools.demo.info_tab import read_info
from sfumato.tools.demo.info_table import rows_of, table
from sfumato.tools.demo.limits import Limits
from sfumato.tools.demo.png_texts import read_png
from sfumato.tools.demo.slots import labels_of, seeds_of
from sfumato.tools.demo.strangers import read_a1111, read_comfy

MOST = 10 * 2**20
A1111 = """a cat, <b>bold</b>
second line
Negative prompt: blurry, low
Steps: 28, Sampler: DPM++ 2M SDE, Schedule type: Karras, CFG scale: 6.5, Seed: 1234, Size: 512x768, Model hash: abc, Model: x"""
COMFY = {
    "3": {"class_type": "KSampler", "inputs": {
        "seed": 2**64 - 1, "steps": 12, "cfg": 20.0, "sampler_name": "euler_ancestral", "scheduler": "sgm_uniform",
        "positive": ["6", 0], "negative": ["7", 0],
    }},
    "6": {"class_type": "ConditioningZeroOut", "inputs": {"conditioning": ["8", 0]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "no"}},
    "8": {"class_type": "CLIPTextEncode", "inputs": {"text": "a dog"}},
}  # fmt: skip


def png(texts=(), packed=False, size=(8, 8)):
    info = PngInfo()
    for key, value in texts:
        info.add_text(key, value, zip=packed)
    file = io.BytesIO()
    Image.new("L", size).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_our_own_settings_are_read_as_they_were_written():
    settings = {"steps": 7, "prompt": "Ä \u4e00", "threshold": float("inf"), "seed": 2**63 - 1}
    found, said = read_info(encode(Image.new("L", (5, 3)), settings), MOST)
    assert (found.width, found.height) == (5, 3)
    assert said == settings


@pytest.mark.parametrize("packed", [False, True])
def test_settings_of_the_web_ui_are_read(packed):
    _, said = read_info(png([("parameters", A1111)], packed), MOST)
    assert said.values == {
        "prompt": "a cat, <b>bold</b>\nsecond line", "negative": "blurry, low", "count": 1, "sampler": "DPM++ 2M SDE", "grid": "Karras",
        "steps": 28, "scale": 6.5, "rule": "CFG", "seeds": "1234",
    }  # fmt: skip
    assert len(said.notes) == 1
    assert "<b>" not in table(said.rows)
    assert ("Size", "512x768") in said.rows


def test_one_name_for_sampler_and_grid_is_taken_apart_and_unknown_ones_are_said():
    said = read_a1111("x\nSteps: 5, Sampler: DPM++ 2M Karras, CFG scale: 30, Seed: -1")
    assert (said.values["sampler"], said.values["grid"], said.values["rule"]) == (
        "DPM++ 2M",
        "Karras",
        "CFG(scale=30.0)",
    )
    assert "seeds" not in said.values
    said = read_a1111("x\nSteps: 5, Sampler: Restart, Schedule type: Align Your Steps, Seed: 3")
    assert (said.values["sampler"], said.values["grid"]) == ("the model's own", "the model's own")
    assert [note.split(":")[0] for note in said.notes[1:]] == ["sampler", "grid"]


def test_settings_of_comfyui_are_read():
    _, said = read_info(png([("prompt", json.dumps(COMFY))]), MOST)
    assert said.values == {
        "prompt": "a dog", "negative": "no", "count": 1, "sampler": "Euler a", "grid": "Linspace(clean=false)", "steps": 12,
        "rule": "CFG(scale=20.0)",
    }  # fmt: skip
    assert [note.split(":")[0] for note in said.notes[1:]] == ["grid", "seed"]


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"1": 3}', "[" * 100_000, '{"1": {"class_type": "KSampler"}}', "nonsense"], ids=range(6)
)
def test_graphs_that_are_none_are_refused_in_words(text):
    with pytest.raises(ValueError, match="ComfyUI graph"):
        read_comfy(text)


@pytest.mark.parametrize("links", [{"6": {"class_type": "x", "inputs": {"text": ["6", 0]}}}, {}])
def test_a_graph_that_leads_nowhere_has_no_prompt(links):
    said = read_comfy(json.dumps({"3": COMFY["3"], **links}))
    assert said.values["prompt"] == ""


def test_files_that_mean_harm_are_refused_before_anything_is_decoded():
    good = png([("a", "b")])
    head = good[:8]
    for data, why in (
        (b"GIF89a", "no PNG"), (good[:-5], "not copied whole"), (good[:40], "not copied whole"),
        (good.replace(b"IHDR", b"IHDS", 1), "checksum"), (head + chunk(b"IDAT", b""), "begin with its size"),
        (head + chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)), "pixels"),
        (head + chunk(b"IHDR", struct.pack(">IIBBBBB", 0, 8, 8, 0, 0, 0, 0)), "pixels"),
        (good + b"x" * MOST, "bytes"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=why):
            read_png(data, MOST)


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt"])
def test_texts_that_unpack_to_gigabytes_are_refused(kind):
    bomb = zlib.compress(b"a" * (64 * 2**20), 9)
    body = b"sfumato\0\0" + bomb if kind == b"zTXt" else b"sfumato\0\1\0\0\0" + bomb
    good = png()
    at = 8 + 25  # behind the size
    with pytest.raises(ValueError, match="texts are longer"):
        read_png(good[:at] + chunk(kind, body) + good[at:], MOST)


def test_settings_nested_without_end_are_refused():
    with pytest.raises(ValueError, match="can't be read"):
        read_info(png([("sfumato", "[" * 200_000)]), MOST)


def test_a_table_escapes_names_and_values():
    said = {"<script>": "<img src=x onerror=alert(1)>", "sampler": {"class_path": "<b>"}, "steps": 3}
    found = table(rows_of(said), [{"seed": "<i>", "prompt": "</td>"}])
    for tag in ("<script", "<img", "<b>", "<i>", "</td></td>"):
        assert tag not in found


def test_seeds_and_classes_are_read_as_they_are_written():
    limits = Limits(pictures=8)
    assert seeds_of("5", 3, limits) == (5, 6, 7)
    assert seeds_of("3,9,27-29", 1, limits) == (3, 9, 27, 28, 29)
    assert len(seeds_of("random", 4, limits)) == len(seeds_of("-1", 4, limits)) == 4
    assert labels_of("3, none, 5-6", 6, 10, "class") == [3, None, 5, 6, 3, None]
    assert labels_of("each in turn", 3, 2, "class") == [0, 1, 0]
    for said in ("9223372036854775807", "1,2-30", "-2", "2.7"):
        with pytest.raises(ValueError, match="seed"):
            seeds_of(said, 2, limits)
    for said in ("10", "x", "3-", "1e2", "../etc", "\u0663"):
        with pytest.raises(ValueError, match="class is"):
            labels_of(said, 2, 10, "class")
