"""The protocol takes the filters that come next as they are: each is written here in a dozen lines and runs in Model.sample."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import pytest
import torch
from modelled import LABELS, made
from oracles import Mixture
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sfumato.guidance import CFG
from sfumato.samplers import DDIM, DDPM, DPMSolverPP, Heun
from sfumato.samplers.filters import Filter, Judge, Judged, RenoiseProbe, Scores, judge_pictures
from sfumato.samplers.filters.filter import bounded
from sfumato.schedules import RectifiedFlow, Schedule, V
from sfumato.schedules.parts import build, describe

# what comes next, as anybody may write it


@dataclass(frozen=True)
class Memorised:
    """A judge: minus the distance to the nearest training image (a copy is near, so it rates high)."""

    file: str

    @cached_property
    def images(self) -> Tensor:
        return load_file(self.file)["images"].flatten(1)

    def rate(self, x0: Tensor) -> Tensor:
        # not by products of matrices, which round a distance of 0 to some thousandths
        apart = torch.cdist(x0.flatten(1), self.images, compute_mode="donot_use_mm_for_euclid_dist")
        return -apart.amin(1)


@dataclass(frozen=True)
class LowDensity:
    """The round-trip error at several levels, summed: a crude bound on -log p(x) from one noising each."""

    log_snrs: tuple[float, ...] = (6.0, 3.0, 0.0)
    threshold: float = float("inf")
    path: Schedule | None = None

    def score(self, x0, denoise, noise):
        total = x0.new_zeros(len(x0))
        for i, at in enumerate(map(self.path.at_log_snr, self.log_snrs)):
            back = getattr(denoise, "plain", denoise)(at.alpha * x0 + at.sigma * noise(i), at).x0
            total = total + 0.5 * at.ratio**-2 * (back - x0).flatten(1).square().sum(1)
        return total

    def init(self, x, levels):
        return x.new_zeros(len(x))

    def update(self, memory, step):
        if not step.last:
            return memory
        return self.score(step.x / step.level.alpha, step.denoise, lambda d: step.noise(step.index, d))

    def verdict(self, memory):
        return bounded(memory, self.threshold)


class Safety(nn.Module):
    """A classifier that carries its arguments in .config, as networks of diffusers do: rates by a linear score."""

    def __init__(self, weight: float = 1.0, path: str = "") -> None:
        super().__init__()
        self.config: Mapping[str, object] = {"weight": weight, "path": path}
        self.weight = nn.Parameter(torch.tensor(weight))

    def rate(self, x0: Tensor) -> Tensor:
        return self.weight * x0.flatten(1).mean(1)


@dataclass(frozen=True)
class Turns:
    """Features of the trajectory: cosine between a random projection's first and last state, remembered as tensors."""

    width: int = 4
    threshold: float = float("inf")

    def init(self, x, levels):
        basis = torch.randn(x[0].numel(), self.width, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
        return {"basis": basis, "features": x.new_zeros(len(x), 0, self.width), "first": None}

    def update(self, memory, step):
        here = step.prediction.x0.flatten(1) @ memory["basis"]
        return {**memory, "features": torch.cat([memory["features"], here[:, None]], 1)}

    def verdict(self, memory):
        features = memory["features"]
        return bounded(1 - torch.cosine_similarity(features[:, 0], features[:, -1]), self.threshold)


@dataclass(frozen=True)
class Disagrees:
    """Asks step.denoise in the middle of the walk: the guided answer against that at a nudged x."""

    every: int = 2
    threshold: float = float("inf")

    def init(self, x, levels):
        return x.new_zeros(len(x))

    def update(self, memory, step):
        if step.index % self.every or step.last:
            return memory
        nudged = step.denoise(step.x + 0.01 * step.noise(step.index, 0), step.level)
        return memory + (nudged.x0 - step.prediction.x0).flatten(1).square().mean(1)

    def verdict(self, memory):
        return bounded(memory, self.threshold)


@pytest.fixture(scope="module")
def model():
    return made()


def scored(model, judge, seeds=range(10), **rest):
    return model.sample(list(seeds), [i % 10 for i in range(len(seeds))], filters=[judge], mark=True, **rest).scores[0]


IMAGES = torch.randn(50, 1, 8, 8, generator=torch.Generator().manual_seed(0))
COMING = [
    lambda cut, file: Judged(Memorised(file), threshold=cut),
    lambda cut, file: LowDensity(threshold=cut),
    lambda cut, file: Judged(Safety(2.0), threshold=cut),
    lambda cut, file: Turns(threshold=cut),
    lambda cut, file: Disagrees(threshold=cut),
]
NAMES = ["memorised", "low density", "safety", "features", "asks again"]


@pytest.mark.filterwarnings("ignore:filters rejected", "ignore:.*slots have no picture")
@pytest.mark.parametrize("make", COMING, ids=NAMES)
def test_a_coming_filter_refills_slots_that_depend_on_themselves_alone(model, make, tmp_path):
    """A median threshold: rejected slots are tried again, accepted scores are below it, and a picture is the same in any batch."""
    file = str(tmp_path / "train.safetensors")
    save_file({"images": IMAGES}, file)
    judge = make(float("inf"), file)
    assert isinstance(judge, Filter)
    first = scored(model, judge)
    assert first.std() > 0
    cut = float(first.median())
    out = model.sample(range(10), range(10), filters=[make(cut, file)], retries=6, batch=4)
    assert int(out.kept.sum()) >= 6
    assert bool((out.scores[0][out.kept] <= cut).all())
    assert int((out.attempts > 0).sum()) == 5
    for slot in (3, 7):
        alone = model.sample([slot], [slot % 10], filters=[make(cut, file)], retries=6)
        assert torch.allclose(alone.images[0], out.images[slot], atol=1e-5, equal_nan=True)  # nan: it ran out
        assert torch.allclose(alone.scores[0][0], out.scores[0][slot], rtol=1e-3)
        assert alone.attempts[0] == out.attempts[slot]


@pytest.mark.filterwarnings("ignore:filters rejected")
def test_a_copy_of_a_training_image_is_rejected_and_nothing_else(model, tmp_path):
    x0 = model.sample([1, 2, 3], [0, 1, 2]).images
    save_file({"images": torch.cat([IMAGES, x0[1:2]])}, file := tmp_path / "train.safetensors")
    # of what was sampled the copy is nearest by far
    near = model.sample([1, 2, 3], [0, 1, 2], filters=[Judged(Memorised(str(file)))], mark=True).scores[0]
    judge = Judged(Memorised(str(file)), threshold=float(near.sort().values[1:].mean()))
    out = model.sample([1, 2, 3], [0, 1, 2], filters=[judge], mark=True)
    assert out.kept.tolist() == [True, False, True]
    assert out.reasons[1].startswith("Judged: score")
    # of finished pictures it is the copy itself
    seen = judge_pictures(Judged(Memorised(str(file)), threshold=-1e-3), out.images)
    assert seen.keep.tolist() == [True, False, True]
    assert float(seen.verdicts[0].score[1].abs()) < 1e-3


def test_low_density_counts_its_questions_and_judges_any_picture(model):
    out = model.sample([0, 1], [0, 1], filters=[LowDensity()], guidance=CFG(2.0), steps=5, sampler=Heun())
    plain = model.sample([0, 1], [0, 1], guidance=CFG(2.0), steps=5, sampler=Heun())
    assert (out.evaluations - plain.evaluations).tolist() == [[3, 0]] * 2  # the conditional branch alone
    assert isinstance(LowDensity(), Scores)
    # of one Gaussian, what is far from its mean scores higher, wherever it comes from
    there = LowDensity(path=RectifiedFlow())
    x0 = torch.tensor([[0.0], [0.5], [3.0]], dtype=torch.float64).expand(3, 16)
    score = judge_pictures(there, x0, Mixture((1.0,), (0.0,), (0.5,), row=V())).verdicts[0].score
    assert float(score[0]) < float(score[1]) < float(score[2])


@pytest.mark.filterwarnings("ignore:filters rejected", "ignore:.*slots have no picture")
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(("sampler", "per"), [(DPMSolverPP(), 6), (Heun(), 11)], ids=str)
def test_the_probe_asks_exactly_k_times_per_attempt(model, sampler, per, strict):
    """Also under guidance, with a method of two evaluations, in full batches and over again; and never the other branch."""
    labels, guidance = [*LABELS, 6, 7, 8, 9], CFG(3.0)
    free = RenoiseProbe(1.0, k=3)
    scores = model.sample(range(10), labels, guidance=guidance, sampler=sampler, filters=[free], mark=True).scores[0]
    out = model.sample(
        range(10), labels, guidance=guidance, sampler=sampler, filters=[replace(free, threshold=float(scores.median()))], retries=3,
        batch=4, strict=strict,
    )  # fmt: skip
    tries = out.attempts + 1
    assert int(tries.sum()) >= 14
    assert out.branches == ("cond", "ref")
    assert torch.equal(out.evaluations[:, 0], tries * (per + 3))
    assert torch.equal(out.evaluations[:, 1], tries * per)


@pytest.mark.parametrize("sampler", [DDIM(), DDPM()], ids=str)
def test_a_filter_that_asks_and_draws_moves_nothing(model, sampler):
    """What it asks and draws is its own: the picture is the picture without it, bit for bit, under guidance with a memory too."""
    from sfumato.guidance import APG

    ask = {"steps": 6, "sampler": sampler, "guidance": APG(3.0, momentum=-0.5)}
    plain = model.sample([5, 6], [1, 2], **ask)
    for judge in (Turns(), LowDensity(), Judged(Safety())):
        assert torch.equal(model.sample([5, 6], [1, 2], filters=[judge], **ask).images, plain.images)


def test_a_judge_that_is_a_network_is_described_and_built_again():
    judge = Judged(Safety(0.5, "x.safetensors"), threshold=3.0)
    said = describe(judge)
    module = Safety.__module__
    assert said["init_args"]["judge"] == {
        "class_path": f"{module}.Safety",
        "init_args": {"weight": 0.5, "path": "x.safetensors"},
    }
    sys.modules[module] = sys.modules.get(module) or _module(module)
    again = build(said, [module.split(".")[0]])
    assert isinstance(again.judge, Judge)
    assert describe(again) == said
    with pytest.raises(ValueError, match="outside Sfumato"):
        build(said)


def _module(name):
    made = type(sys)(name)
    made.Safety = Safety
    return made


PLUGIN = '''
from collections.abc import Mapping
from dataclasses import dataclass
from torch import Tensor, nn


@dataclass(frozen=True)
class Bright:
    """A judge that is a dataclass."""

    by: float = 1.0

    def rate(self, x0: Tensor) -> Tensor:
        return self.by * x0.flatten(1).mean(1)


class Net(nn.Module):
    """A judge that is a network."""

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.config: Mapping[str, object] = {"weight": weight}
        self.weight = weight

    def rate(self, x0: Tensor) -> Tensor:
        return self.weight * x0.flatten(1).mean(1)
'''


@pytest.mark.filterwarnings("ignore:filters rejected", "ignore:.*slots have no picture")
@pytest.mark.parametrize(("kind", "argument"), [("Bright", "by"), ("Net", "weight")])
def test_a_safety_classifier_by_class_path_on_the_command_line(kind, argument, tmp_path, monkeypatch, capsys):
    from sfumato.diffusion import train
    from sfumato.tools.cli import main
    from sfumato.tools.train import recipe_from, resolve_recipe

    (tmp_path / "doorplug.py").write_text(PLUGIN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("doorplug", None)
    recipe = recipe_from(resolve_recipe("digits", [("steps", 2), ("sample_every", 0), ("backbone.width", 8)], []), [])
    train(recipe, tmp_path / "run", progress=False)
    words = ["sample", "run", "--seeds", "0-7", "--steps", "3", "--retries", "0"]
    judge = ["--filters", "Judged", "--filters.judge", f"doorplug.{kind}", f"--filters.judge.{argument}", "2"]
    try:
        assert main([*words, *judge, "--out", "refused"]) != 0
        assert "allow" in capsys.readouterr().err
        assert main([*words, *judge, "--allow", "doorplug", "--out", "all"]) == 0
        text = f"{{class_path: Judged, init_args: {{judge: {{class_path: doorplug.{kind}, init_args: {{{argument}: 2}}}}, threshold: -9}}}}"
        assert main([*words, "--filters", text, "--allow", "doorplug", "--out", "none"]) == 1  # no picture at all
    finally:
        sys.modules.pop("doorplug", None)
    assert len(list((tmp_path / "all").glob("seed-*.png"))) == 8
    assert list((tmp_path / "none").glob("seed-*.png")) == []
    rows = json.loads((tmp_path / "none" / "samples.json").read_text())
    assert len(rows) == 8
    assert all(not row["kept"] and row["reason"].startswith("Judged: score") for row in rows)
