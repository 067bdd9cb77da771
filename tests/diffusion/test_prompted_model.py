"""A model of texts, and of latents: prompts decide the picture by a closed form, and pictures are what the decoder makes."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from sfumato.diffusion import Denoiser, Model, PictureFolder, TimeClock
from sfumato.guidance import CFG
from sfumato.samplers import Heun
from sfumato.samplers.filters import Judged, RenoiseProbe
from sfumato.schedules import X0, Cosine, trailing

S = 0.1  # of the data around their mean
ROUGH = 7e-3  # of 100 steps; means are a tenth apart


class Letters:
    """A text's mean is its number of letters, tenths; what it has encoded is noted."""

    def __init__(self):
        self.seen = []

    def encode(self, prompts):
        self.seen += prompts
        return {"text": torch.tensor([[len(p) / 10] for p in prompts])}


class Gaussian(nn.Module):
    """The exact x0 of data N(mean, S^2), told its mean."""

    def __init__(self):
        super().__init__()
        self.anything = nn.Parameter(torch.zeros(1))

    def forward(self, x, time, *, text):
        level = Cosine()(time.double() / 1000)
        alpha, sigma = (v.view(-1, 1, 1, 1) for v in (level.alpha, level.sigma))
        mean = text.view(-1, 1, 1, 1).double()
        return (mean + alpha * S**2 * (x.double() - alpha * mean) / (alpha**2 * S**2 + sigma**2)).to(x.dtype)


def prompted(**rest):
    denoiser = Denoiser(Gaussian(), Cosine(), X0(), TimeClock())
    return Model(denoiser, (1, 2, 2), sampler=Heun(), grid=trailing, steps=100, text=Letters(), **rest)


def exact(seeds, means):
    """Where the flow of N(mean, S^2) ends that began at the noise of these seeds."""
    from sfumato.schedules.noise import gaussian

    noise = gaussian(torch.tensor(seeds), torch.zeros(len(seeds), dtype=torch.int64), -1, 0, (1, 2, 2), torch.float64)
    return torch.tensor(means).view(-1, 1, 1, 1) + S * noise


def test_the_prompt_decides_where_a_picture_ends():
    out = prompted().sample([3, 4, 5], prompts=["a", "", "abcde"])
    assert torch.allclose(out.images.double(), exact([3, 4, 5], [0.1, 0.0, 0.5]), atol=ROUGH)
    assert out.prompts == ("a", "", "abcde")
    assert [out.settings_of(i)["prompt"] for i in range(3)] == ["a", "", "abcde"]


def test_one_prompt_is_for_all_and_is_encoded_once():
    model = prompted()
    out = model.sample([3, 4], prompts="abc")
    assert torch.equal(out.images, model.sample([3, 4], prompts=["abc", "abc"]).images)
    assert model.text.seen == ["abc", "", "abc", ""]


def test_one_text_for_all_is_one_row_in_memory():
    told = prompted().conditions(None, 10**6, prompts="abc")
    for name, value in (("cond", 0.3), ("ref", 0.0)):
        text = told[name]["text"]
        assert text.shape == (10**6, 1)
        assert text.untyped_storage().nbytes() <= 8
        assert float(text[-1]) == pytest.approx(value)


def test_guidance_steers_away_from_the_empty_text_or_a_negative_one():
    """On Gaussians of one width, guidance of the means is the Gaussian of the guided mean."""
    model = prompted()
    out = model.sample([3], prompts="ab", guidance=CFG(2.0))
    assert torch.allclose(out.images.double(), exact([3], [0.4]), atol=ROUGH)
    out = model.sample([3], prompts="ab", also={"negative": "abcd"}, guidance=CFG(2.0, against="negative"))
    assert torch.allclose(out.images.double(), exact([3], [0.0]), atol=ROUGH)
    assert out.settings_of(0)["also"] == {"negative": "abcd"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"labels": [1]}, "knows texts, not classes; give prompts"),
        ({"prompts": ["a", "b"]}, "prompts has 2 texts for 1 seeds"),
        ({"prompts": [3]}, "prompts is \\[3\\]; this model knows texts"),
        ({"prompts": 3}, "prompts is 3; this model knows texts"),
        ({"also": {"cond": "a"}}, "also names 'cond'"),
        ({"also": {"negative": 3}}, "also\\['negative'\\] is 3"),
    ],
)
def test_what_is_no_prompt_is_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        prompted().sample([3], **arguments)


def test_a_model_that_never_saw_the_empty_text_is_not_asked_for_it():
    model = prompted(null_class=False)
    assert torch.allclose(model.sample([3], prompts="ab").images.double(), exact([3], [0.2]), atol=ROUGH)
    with pytest.raises(ValueError, match="knows no empty text; give every seed a prompt"):
        model.sample([3])
    with pytest.raises(ValueError, match="knows no empty text; use guidance Plain"):
        model.sample([3], prompts="ab", guidance=CFG(2.0))


def test_texts_are_refused_by_a_model_without():
    model = Model(Denoiser(nn.Identity(), Cosine(), X0(), TimeClock()), (1, 2, 2), num_classes=3)
    with pytest.raises(ValueError, match="knows no texts, it knows classes; give labels, 0 to 2"):
        model.conditions(None, 1, prompts="a")
    with pytest.raises(ValueError, match="a model of classes, or of texts"):
        Model(Denoiser(nn.Identity(), Cosine(), X0(), TimeClock()), (1, 2, 2), num_classes=3, text=Letters())


class Doubling:
    """Every latent becomes four pixels of half its value; how many latents it was given at a time is noted."""

    def __init__(self):
        self.given = []

    def decode(self, x):
        self.given.append(len(x))
        return (x / 2).repeat_interleave(2, 2).repeat_interleave(2, 3).clamp(-1, 1)

    def picture_shape(self, shape):
        return (shape[0], 2 * shape[1], 2 * shape[2])


def test_latents_are_not_cut_and_pictures_are_what_the_decoder_makes():
    far = "a" * 30  # a mean of 3
    latents = prompted(latents=True).sample([3, 4], prompts=far).images
    assert torch.allclose(latents.double(), exact([3, 4], [3.0, 3.0]), atol=2e-2)
    vae = Doubling()
    model = prompted(latents=True, vae=vae)
    out = model.sample([3, 4], prompts=["abc", "abcd"])
    assert model.picture_shape == (1, 4, 4)
    assert torch.equal(out.images, vae.decode(prompted(latents=True).sample([3, 4], prompts=["abc", "abcd"]).images))
    assert vae.given[:2] == [1, 1]  # so that no picture depends on those beside it


def test_a_decoder_that_overflows_is_said():
    class Overflowing(Doubling):
        def decode(self, x):
            return super().decode(x) + torch.where(x.mean() > 0.35, torch.nan, 0.0)

    with pytest.raises(FloatingPointError, match=r"not finite of the latents of seed\(s\) \[4\]"):
        prompted(latents=True, vae=Overflowing()).sample([3, 4], prompts=["a", "abcdefgh"])


def test_a_job_on_latents_goes_on_where_it_was(tmp_path):
    vae = Doubling()
    model = prompted(latents=True, vae=vae)
    first = model.sample([3, 4], prompts=["abc", "abcd"], folder=PictureFolder(tmp_path / "a"))
    vae.given.clear()
    again = model.sample([3, 4], prompts=["abc", "abcd"], folder=PictureFolder(tmp_path / "a", resume=True))
    assert vae.given == []
    assert torch.allclose(again.images, first.images, atol=1 / 127)
    with pytest.raises(ValueError, match="prompt was"):
        model.sample([3, 4], prompts=["abc", "x"], folder=PictureFolder(tmp_path / "a", resume=True))


def test_filters_look_at_latents_and_rejected_ones_are_decoded():
    vae = Doubling()
    out = prompted(latents=True, vae=vae).sample([3], prompts="abc", filters=[RenoiseProbe(1.0, 0.0)], retries=1)
    assert not out.kept.any()
    assert out.filtered.pictures.shape[1:] == (1, 4, 4)
    assert out.attempts.tolist() == [1]


def test_a_decoder_of_pictures_is_refused():
    with pytest.raises(ValueError, match="vae is given, but latents is False"):
        prompted(vae=Doubling())


SEEN = []


@dataclass(frozen=True)
class Brightness:
    def rate(self, x0):
        SEEN.append(x0)
        return x0.flatten(1).mean(1)


def test_a_judge_of_pictures_is_shown_pictures():
    SEEN.clear()
    out = prompted(latents=True, vae=Doubling()).sample(
        [3, 4], prompts=["abcdef", "a"], filters=[Judged(Brightness(), 0.2)], mark=True
    )
    assert torch.equal(torch.cat(SEEN), out.images)
    assert out.kept.tolist() == [False, True]  # means 0.3 and 0.05, of which Doubling makes half


def test_prompts_on_a_sheet_stay_below_their_pictures():
    """Prompts that differ are cut to the width of a wider tile; one for all stands above."""
    long = "a prompt of many more words than fit below one small picture"
    many, one = prompted().sample([3, 4], prompts=[long, "a"]), prompted().sample([3, 4], prompts=long)
    assert many._captions(128) == ["3 · a prompt of many…", "4 · a"]
    assert one._captions(64) == ["3", "4"]
    assert many.sheet().width > 2 * 128 >= one.sheet(columns=2).width
