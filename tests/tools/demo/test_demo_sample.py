"""The sample tab's stream: what is shown while pictures are made, and at the end, without a browser."""

import base64
import html
import io
import json
import re
import zipfile
from dataclasses import replace

import pytest
import torch
from modelled import made
from PIL import Image

from sfumato.diffusion.images import KEY, to_pixels
from sfumato.schedules.plain_json import from_json, to_json
from sfumato.tools.demo.bundle import zip_file
from sfumato.tools.demo.form import Form, asked
from sfumato.tools.demo.limits import Limits
from sfumato.tools.demo.live import Live, at_once
from sfumato.tools.demo.preview import preview_of
from sfumato.tools.demo.running import Halt
from sfumato.tools.demo.sample_run import shown_while
from sfumato.tools.demo.shelf import Entry, Shelf

LIMITS = Limits()


class Counted(torch.nn.Module):
    """A network whose calls are counted; on the n-th something happens."""

    def __init__(self, inner, at=0, then=lambda: None):
        super().__init__()
        self.inner, self.calls, self.at, self.then = inner, 0, at, then

    def forward(self, *given, **named):
        self.calls += 1
        if self.calls == self.at:
            self.then()
        return self.inner(*given, **named)


def stream(model, form, flag=None):
    return list(shown_while(Shelf([Entry("m", lambda: model)]), "m", form, LIMITS, flag or Halt()))


def pictures(shown):
    """The pictures of tiles, and the settings that their files hold."""
    found = []
    for tile in shown.tiles:
        source = re.search(r'src="data:image/png;base64,([^"]+)"', tile)
        if source:
            image = Image.open(io.BytesIO(base64.b64decode(source[1])))
            found.append((image, image.text.get(KEY)))
    return found


def seeded(**more):
    return Form(seeds="11", count=3, steps=4, **more)


def test_the_end_is_what_the_model_samples_and_every_tile_holds_its_settings():
    model, form = made(), seeded(sampler="DDPM", filters=("PathLength",))
    shown = stream(model, form)
    wanted = model.sample(**asked(form, model, LIMITS).arguments(), batch=at_once(model))
    found = pictures(shown[-1])
    assert len(found) == len(wanted) == 3
    for i, (image, settings) in enumerate(found):
        assert image.tobytes() == to_pixels(wanted.images[i]).tobytes()
        # the very settings, and what is a part of them reads back
        assert settings == json.dumps(to_json(wanted.settings_of(i)), sort_keys=True)
        assert from_json(json.loads(settings))["seed"] == 11 + i
    assert shown[-1].seeds == (11, 12, 13)
    with zipfile.ZipFile(io.BytesIO(zip_file(shown[-1].pictures))) as file:
        assert sorted(file.namelist()) == ["seed-00000011.png", "seed-00000012.png", "seed-00000013.png", "sheet.png"]
        with Image.open(file.open("seed-00000012.png")) as image:
            assert image.tobytes() == found[1][0].tobytes()
            assert image.text[KEY] == found[1][1]
    total = int(wanted.evaluations.sum())
    assert f"{total:,} evaluations" in shown[-1].report
    assert "path length: no threshold, so it scores and keeps all" in shown[-1].report
    assert "0 of 3 rejected" not in shown[-1].report
    assert "✓" not in "".join(shown[-1].tiles)
    assert all("sf-is-scored" in tile and "score only" in tile for tile in shown[-1].tiles[:3])


def test_the_preview_of_the_last_step_is_the_picture_where_a_step_ends_at_x0():
    model = made()
    wanted = asked(seeded(sampler="DDIM"), model, LIMITS)
    live, seen = Live(model, wanted, preview_of(model), Halt()), []
    samples = live.work(lambda glimpse: seen.append(glimpse.x0.clone()))
    assert len(seen) == 4
    # on its way it is another one, and nearer with every step
    far = [float((preview_of(model)(x0) - samples.images).square().mean()) for x0 in seen]
    assert far[0] > far[1] > far[2] > far[3]
    assert torch.allclose(preview_of(model)(seen[-1]), samples.images, atol=1e-6)


def test_tiles_are_there_at_once_in_their_final_size():
    shown = [each for each in stream(made(), seeded()) if each.tiles]
    sizes = [[re.search(r'style="(width:[^"]+)"', tile)[1] for tile in each.tiles[:3]] for each in shown]
    # 8 pixels, enlarged 28 times: whole pixels
    assert all(one == ["width:224px;aspect-ratio:224/224"] * 3 for one in sizes)


@pytest.mark.parametrize("retry", [False, True], ids=["one batch", "retries"])
def test_stop_ends_within_two_steps_and_keeps_what_is_finished(retry):
    flag, model = Halt(), made(guidance=made().guidance)
    # of a second batch, which retries are, the third step
    network = Counted(model.denoiser.backbone, at=4 + 3 if retry else 3, then=flag.stop)
    model.denoiser.backbone = network
    form = seeded(filters=("PathLength(threshold=1e-9)",) if retry else (), rejected="retry")
    last = stream(model, form, flag)[-1]
    assert network.calls <= network.at + 2
    assert "Stopped at step" in last.status
    assert sum("sf-is-stopped" in tile for tile in last.tiles) == (0 if retry else 3)
    assert sum("sf-is-dropped" in tile for tile in last.tiles) == (3 if retry else 0)
    # at once again, with a new flag
    assert "3 pictures made" in stream(model, seeded())[-1].status


def test_stop_keeps_finished_pictures_of_other_batches_with_their_settings():
    flag, model = Halt(), made()
    network = Counted(model.denoiser.backbone, at=4 + 2, then=flag.stop)
    model.denoiser.backbone = network
    wanted = replace(asked(seeded(), model, LIMITS), strict=True)
    live = Live(model, wanted, preview_of(model), flag)
    arguments = {**wanted.arguments(), "batch": 2, "strict": False}
    with pytest.raises(RuntimeError):
        model.sample(**arguments, folder=live.gathered, watch=lambda glimpse: _raise(flag))
    tiles = live.tiles(None, True)
    assert ["sf-is-made" in tile for tile in tiles[:3]] == [True, True, False]
    kept = live.gathered.samples(live.filtered, None)
    model.denoiser.backbone = network.inner
    alone = model.sample(**arguments)
    assert torch.equal(kept.images, alone.images[:2])
    assert [kept.settings_of(i) for i in (0, 1)] == [alone.settings_of(i) for i in (0, 1)]


def _raise(flag):
    if flag.stopped:
        raise RuntimeError


def test_filters_are_told_as_words_and_a_lost_slot_says_why():
    marked = stream(made(), seeded(filters=("PathLength(threshold=1e-9)",)))[-1]
    assert all(
        "sf-is-rejected" in tile and "✗</span> rejected" in tile and "is above" in tile for tile in marked.tiles[:3]
    )
    assert len(pictures(marked)) == 3
    assert "3 of 3 rejected by path length" in marked.report
    lost = stream(made(), seeded(filters=("PathLength(threshold=1e-9)",), rejected="retry"))[-1]
    assert all("sf-hatched" in tile and "<img" not in tile for tile in lost.tiles[:3])
    assert "27 of 27 attempts rejected by path length; 24 were tried again; 3 ran out of attempts" in lost.report
    assert "all 9 attempts at each were rejected" in lost.report  # what was warned of
    once, nine = (int(re.search(r"(\d+) evaluations", shown.report)[1]) for shown in (marked, lost))
    assert nine == 9 * once  # those of lost attempts, too


def test_weights_that_are_nan_are_a_sentence_and_no_picture():
    model = made()
    with torch.no_grad():
        next(model.denoiser.parameters()).fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="not finite for seed"):
        stream(model, seeded())


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (seeded(labels="10"), "class is 10; allowed: 0 to 9"),
        (seeded(sampler="open('x')"), "sampler"),
        (seeded(sampler="DDIM", grid="Karras(low=-1)"), "low"),
    ],
    ids=["class", "sampler", "grid"],
)
def test_what_cannot_be_done_is_said_before_the_network_is_asked(form, words):
    model = made()
    model.denoiser.backbone = Counted(model.denoiser.backbone)
    with pytest.raises(ValueError, match=words):
        stream(model, form)
    assert model.denoiser.backbone.calls == 0


def test_texts_are_escaped_whatever_their_origin():
    model = made()
    wanted = replace(asked(seeded(), model, LIMITS), prompts=['<img src=x onerror="alert(1)">'] * 3, labels=None)
    live = Live(model, wanted, preview_of(model), Halt())
    tile = live.tiles(None, False)[0]
    assert "<img src=x" not in tile
    assert html.escape('<img src=x onerror="alert(1)">')[:20] in tile


def test_pictures_that_no_longer_fit_the_page_are_handed_out_by_the_zip_alone(monkeypatch):
    whole = stream(made(), seeded())[-1]
    assert all(tile.count("sf-save") == 1 and "in the ZIP" not in tile for tile in whole.tiles[:3])
    # room for the first: another begins while there is any
    monkeypatch.setattr("sfumato.tools.demo.live.CARRIED", 1)
    few = stream(made(), seeded())[-1]
    assert few.tiles[0] == whole.tiles[0]
    assert len(pictures(few)) == 1
    for tile in few.tiles[1:3]:
        assert "sf-save" not in tile
        assert "its PNG is in the ZIP" in tile
        assert "data:image/webp" in tile
    with (
        zipfile.ZipFile(io.BytesIO(zip_file(few.pictures))) as file,
        Image.open(file.open("seed-00000013.png")) as image,
    ):
        assert json.loads(image.text[KEY])["seed"] == 13
