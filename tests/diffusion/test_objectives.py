"""Objectives with heads: learned variance, learned uncertainty; densities that learn; all resumed to the last bit."""

import json
import math
import shutil
from dataclasses import replace

import pytest
import torch
from children import pair
from oracles import Spy
from torch import nn

from sfumato.diffusion import (
    AdamW,
    Denoiser,
    Digits,
    Hybrid,
    LearnedUncertainty,
    LogSNRClock,
    Noised,
    Recipe,
    Regression,
    TimeClock,
    UNet,
    VariationalBound,
    load,
    train,
)
from sfumato.diffusion.bound import step_term
from sfumato.diffusion.checkpoint import newest
from sfumato.diffusion.plan import check_recipe
from sfumato.diffusion.run_folder import RunFolder
from sfumato.diffusion.uncertainty import Uncertainty
from sfumato.guidance import CFG
from sfumato.samplers import DDPM
from sfumato.schedules import (
    EDM,
    BetaTable,
    Constant,
    Cosine,
    EDMWeighting,
    Eps,
    LogNormal,
    LossSecondMoment,
    MinSNR,
    RectifiedFlow,
    UniformEntries,
    V,
    VarianceExploding,
)


def network(out_channels=None):
    torch.manual_seed(0)
    return UNet(
        channels=1, size=8, num_classes=10, width=8, multipliers=(1, 2), blocks=1, attention=(), out_channels=out_channels
    )  # fmt: skip


def recipe(**changes):
    values = {
        "data": Digits(), "backbone": network(), "schedule": Cosine(), "row": V(), "clock": LogSNRClock(), "steps": 12, "batch": 16,
        "lr": 2e-3, "warmup": 3, "ema": 0.9, "threads": 1, "log_every": 4, "sampling_steps": 3,
    }  # fmt: skip
    return Recipe(**{**values, **changes})


class Outputs(nn.Module):
    """A network whose answer is its parameter."""

    def __init__(self, out):
        super().__init__()
        self.out = nn.Parameter(out)

    def forward(self, x, time):
        return self.out


def seen(schedule, count=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x0, eps = (torch.randn(count, 1, 4, 4, generator=generator, dtype=torch.float64).clamp(-1, 1) for _ in range(2))
    return Noised(x0, eps, schedule(torch.linspace(0.02, 0.98, count, dtype=torch.float64)))


def test_hybrid_trains_the_variance_by_the_bound_and_the_mean_by_the_error():
    schedule, batch = Cosine(), seen(Cosine())
    out = torch.randn(5, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    both, plain = Outputs(out.clone()), Outputs(out[:, :1].clone())
    hybrid = Hybrid(0.001, 50)(Denoiser(both, schedule, V(), TimeClock()), None, MinSNR(), batch)
    simple = Regression()(Denoiser(plain, schedule, V(), TimeClock()), None, MinSNR(), batch)
    hybrid.loss.sum().backward()
    simple.loss.sum().backward()
    assert torch.allclose(both.out.grad[:, :1], plain.out.grad, rtol=1e-12)  # the mean is detached in the bound
    assert float(both.out.grad[:, 1:].abs().min()) > 0
    assert torch.isfinite(both.out.grad).all()
    assert torch.equal(hybrid.error, simple.error)
    # and the value is simple + scale * T * bits
    t = batch.level.t
    before, nxt = schedule((t + 1 / 50).clamp(max=1)), schedule(torch.where(t > 1.5 / 50, t - 1 / 50, 0.0))
    at = batch.level.like(batch.x0)
    x0 = at.alpha * batch.x - at.sigma * out[:, :1]
    bits = step_term(batch.x0, x0, out[:, 1:], before, batch.level, nxt, 256)
    assert torch.allclose(hybrid.loss, simple.loss + 0.05 * bits.float(), rtol=1e-5)
    assert float(nxt.sigma[0]) == 0  # the decoder is among the terms


def test_the_bound_trains_both():
    schedule, batch = BetaTable("linear", 50), seen(BetaTable("linear", 50))
    both = Outputs(torch.zeros(5, 2, 4, 4, dtype=torch.float64))
    losses = VariationalBound(50)(Denoiser(both, schedule, Eps(), TimeClock()), None, MinSNR(), batch)
    losses.loss.sum().backward()
    assert float(both.out.grad.abs().flatten(2).sum(2).min()) > 0
    assert torch.isfinite(both.out.grad).all()


def test_the_variance_of_the_bound_finds_the_error():
    """Training o alone by the bound leads to the variance that is the mean squared error of the step."""
    schedule = Cosine()
    level = schedule(torch.full((4000,), 0.5, dtype=torch.float64))
    generator = torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(4000, 1, 1, 1, generator=generator, dtype=torch.float64) for _ in range(2))
    o = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    class Wrong(nn.Module):  # believes x0 + 0.5 n
        def forward(self, x, time):
            at = level.like(x)
            believed = x0 + 0.5 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
            out = at.alpha * (x - at.alpha * believed) / at.sigma - at.sigma * believed
            return torch.cat([out, o.expand_as(x)], 1)

    model = Denoiser(Wrong(), schedule, V(), TimeClock())
    optimizer = torch.optim.LBFGS([o], max_iter=50, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = Hybrid(1.0, 20, None)(model, None, MinSNR(), Noised(x0, eps, level)).loss.mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    from sfumato.diffusion.bound import posterior

    now, nxt = (schedule(torch.tensor([t], dtype=torch.float64)) for t in (0.5, 0.45))
    q = posterior(now, nxt)
    wanted = math.log(float(q.small.exp()) + float(q.of_x0) ** 2 * 0.25)
    found = float((1 + o) / 2 * q.large + (1 - (1 + o) / 2) * q.small)
    assert found == pytest.approx(wanted, abs=0.02)


def test_uncertainty_weighs_by_the_inverse_of_the_loss():
    """With a fixed error: loss = e^-u w e + u, the gradient of the output halves when u grows by log 2, the best u is log(w e)."""
    schedule, batch = RectifiedFlow(), seen(RectifiedFlow())
    head = Uncertainty(16).double()
    outputs = Outputs(torch.zeros(5, 1, 4, 4, dtype=torch.float64))
    model = Denoiser(outputs, schedule, EDM(0.5), LogSNRClock())
    plain = Regression()(model, None, EDMWeighting(0.5), batch).loss
    first = LearnedUncertainty(16)(model, head, EDMWeighting(0.5), batch)
    assert torch.allclose(first.loss, plain, rtol=1e-6)  # u is 0 before training
    first.loss.sum().backward()
    before = outputs.out.grad.clone()
    outputs.out.grad = None
    nn.init.constant_(head.linear.bias, math.log(2.0))
    second = LearnedUncertainty(16)(model, head, EDMWeighting(0.5), batch)
    second.loss.sum().backward()
    assert torch.allclose(outputs.out.grad, before / 2, rtol=1e-6)
    assert torch.allclose(second.loss, plain / 2 + math.log(2.0), rtol=1e-6)


def test_uncertainty_learns_the_size_of_the_loss_at_every_level():
    """A loss that spans four orders of magnitude over log-SNR becomes 1 everywhere, and u its logarithm."""
    head = Uncertainty(64)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.1)
    log_snr = torch.linspace(-12, 12, 96, dtype=torch.float64)
    level = RectifiedFlow().at_log_snr(log_snr)
    size = torch.exp(-0.4 * log_snr + torch.sin(log_snr / 3)).float()
    for step in range(500):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * (1 - step / 500)
        optimizer.zero_grad()
        u = head(level)
        (size / u.exp() + u).mean().backward()
        optimizer.step()
    u = head(level).detach()
    assert float((u - size.log()).abs().mean()) < 0.1
    assert float((size / u.exp()).mean()) == pytest.approx(1.0, abs=0.02)


CASES = {
    "hybrid": lambda: {"backbone": network(2), "objective": Hybrid(0.001, 20), "density": UniformEntries(20)},
    "bound": lambda: {
        "backbone": network(2), "objective": VariationalBound(8), "schedule": BetaTable("cosine", 8), "grid": _grid(),
        "density": LossSecondMoment(history=2),
    },
    "uncertainty": lambda: {"objective": LearnedUncertainty(16), "density": LogNormal(), "weighting": EDMWeighting(0.5)},
}  # fmt: skip


def _grid():
    from sfumato.schedules import Trailing

    return Trailing()


def tensors(folder):
    found = newest(folder / "checkpoints")
    names = [p.stem for p in found.folder.glob("*.safetensors")]
    return found.step, {f"{n}/{k}": v for n in names for k, v in found.tensors(n).items()}


@pytest.mark.parametrize("case", CASES)
def test_a_resumed_run_is_the_same_run(case, tmp_path):
    """Weights, heads, optimizer states and what the density knows, to the last bit; and the model samples."""
    train(recipe(**CASES[case](), save_every=5, keep=9), tmp_path / "whole", progress=False)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for folder in (tmp_path / "cut" / "checkpoints").iterdir():
        if folder.name > "step-000000005":
            shutil.rmtree(folder)
    before = tensors(tmp_path / "cut")
    assert before[0] == 5
    model = train(recipe(**CASES[case](), save_every=5, keep=9), tmp_path / "cut", resume=True, progress=False)
    (step, resumed), (_, whole) = tensors(tmp_path / "cut"), tensors(tmp_path / "whole")
    assert step == 12
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[k].nan_to_num(-7.0), whole[k].nan_to_num(-7.0)) for k in whole)
    extra = {"hybrid": set(), "bound": {"density"}, "uncertainty": {"head", "head_optimizer"}}[case]
    assert {k.split("/")[0] for k in whole} == {"model", "ema", "optimizer", "noise_scale", "growth", "line", *extra}
    assert model.sample([1, 2], [3, 4], sampler=DDPM()).images.isfinite().all()
    if case in ("hybrid", "bound"):  # the variance goes through guidance into the sampler
        one, other = (
            model.sample([1, 2], [3, 4], sampler=DDPM(v), guidance=CFG(2.0)).images for v in ("learned", "small")
        )
        assert one.isfinite().all()
        assert not torch.allclose(one, other, atol=1e-3)
    if case == "bound":
        assert not whole["density/known"].isnan().any()
        assert whole["density/known"].std() > 0
    if case == "uncertainty":
        assert float(whole["head/linear.weight"].abs().max()) > 0


@pytest.mark.parametrize("case", ["bound", "uncertainty"])
def test_two_processes_are_one_with_two_micro_batches(case, tmp_path):
    def half(rank):
        train(recipe(**CASES[case](), steps=6), tmp_path / "two", progress=False)

    assert [child.ended(120) for child in pair(half, tmp_path / "log")] == [0, 0]
    train(recipe(**CASES[case](), steps=6, micro_batch=8), tmp_path / "one", progress=False)
    a, b = tensors(tmp_path / "two")[1], tensors(tmp_path / "one")[1]
    assert a.keys() == b.keys()
    same = [k for k in a if not k.startswith(("noise_scale/", "growth/"))]  # measured of other parts of the batch
    assert all(torch.equal(a[k].nan_to_num(-7.0), b[k].nan_to_num(-7.0)) for k in same)


def logged(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_density_is_told_losses_without_its_factor_and_draws_from_what_it_knows(tmp_path):
    """The factor is in the loss that is minimised and in its gradient; the levels of step k are those of k things known."""
    for factor in (1.0, 3.0):
        train(recipe(density=Spy(factor), steps=3, log_every=1, clip=None), tmp_path / str(factor), progress=False)
    one, three = logged(tmp_path / "1.0"), logged(tmp_path / "3.0")
    assert three[0]["loss"] == pytest.approx(3 * one[0]["loss"], rel=1e-5)
    assert three[0]["gradient_norm"] == pytest.approx(3 * one[0]["gradient_norm"], rel=1e-4)
    known = newest(tmp_path / "3.0" / "checkpoints").tensors("density")["known"]
    assert known.tolist()[1:] == pytest.approx([line["loss"] / 3 for line in three], rel=1e-5)


def test_the_gradient_of_the_head_is_clipped_and_logged_with_the_rest(tmp_path):
    """At u = 0 the network's gradient is the plain one; the head's comes on top, and both are cut to the norm."""
    for name, objective in (("plain", Regression()), ("head", LearnedUncertainty(16))):
        train(recipe(objective=objective, steps=1, log_every=1), tmp_path / name, progress=False)
    plain, head = (logged(tmp_path / name)[0] for name in ("plain", "head"))
    assert head["loss"] == pytest.approx(plain["loss"], rel=1e-6)
    assert head["gradient_norm"] > 1.01 * plain["gradient_norm"]


def test_decay_is_the_networks(tmp_path):
    """Weight decay does not pull the uncertainty to zero."""
    for decay in (0.0, 0.9):
        train(
            recipe(**CASES["uncertainty"](), optimizer=AdamW(weight_decay=decay), lr=0.1, warmup=0),
            tmp_path / str(decay),
            progress=False,
        )
    a, b = (tensors(tmp_path / str(decay))[1] for decay in (0.0, 0.9))
    assert float(b["model/stem.weight"].norm()) < 0.9 * float(a["model/stem.weight"].norm())
    assert float(b["head/linear.bias"].abs()) > 0.5 * float(a["head/linear.bias"].abs())


def test_the_bound_is_steps_times_a_term():
    """In value, on every entry of a table, the one next to data included."""
    table = BetaTable("linear", 50)
    level = table(torch.tensor([1, 2, 25, 50], dtype=torch.float64) / 50)
    x0, eps = (torch.randn(4, 1, 4, 4, dtype=torch.float64).clamp(-1, 1) for _ in range(2))
    out = torch.randn(4, 2, 4, 4, dtype=torch.float64)
    shown = Noised(x0, eps, level)
    losses = VariationalBound()(Denoiser(Outputs(out), table, Eps(), TimeClock()), None, MinSNR(), shown)
    at = level.like(x0)
    believed = (shown.x - at.sigma * out[:, :1]) / at.alpha
    before, nxt = table((level.t + 0.02).clamp(max=1)), table(level.t - 0.02)
    nxt = nxt._replace(sigma=nxt.sigma * (level.t > 0.03), alpha=torch.where(level.t > 0.03, nxt.alpha, 1.0))
    bits = step_term(x0, believed, out[:, 1:], before, level, nxt, 256)
    assert torch.allclose(losses.loss, 50 * bits.float(), rtol=1e-5)


def test_the_last_step_leads_to_data_on_a_path_that_does_not():
    """EDM's path ends at sigma 0.002: the bound has its decoder all the same."""
    path = VarianceExploding()
    outputs = Outputs(torch.zeros(2, 2, 4, 4, dtype=torch.float64))
    x0 = torch.full((2, 1, 4, 4), 0.25, dtype=torch.float64)
    model = Denoiser(outputs, path, V(), TimeClock())
    shown = Noised(x0, x0, path(torch.tensor([0.1, 0.2], dtype=torch.float64)))
    some, other = (VariationalBound(10, bins)(model, None, MinSNR(), shown).loss for bins in (17, 256))
    assert float(some[0]) != pytest.approx(float(other[0]))  # only the decoder knows of bins
    assert float(some[1]) == pytest.approx(float(other[1]))


def test_a_check_leaves_the_network_as_it_was():
    r = recipe()
    r.backbone.train()
    check_recipe(r)
    assert r.backbone.training


def test_what_does_not_fit_is_said_before_the_first_step():
    on_entries = {"density": UniformEntries(1000)}
    with pytest.raises(ValueError, match=r"set backbone.out_channels: 2, twice the data's 1"):
        check_recipe(recipe(objective=Hybrid(), **on_entries))
    check_recipe(recipe(backbone=network(2), objective=Hybrid(), **on_entries))
    with pytest.raises(
        ValueError, match=r"objective Hybrid sums over 1000 steps, but density Uniform draws levels between"
    ):
        check_recipe(recipe(backbone=network(2), objective=Hybrid()))
    with pytest.raises(ValueError, match=r"with density.steps: 1000"):
        check_recipe(recipe(backbone=network(2), objective=VariationalBound(), density=UniformEntries(7)))
    with pytest.raises(
        ValueError, match=r"objective.steps is 9, the schedule's table has 8 entries; set objective.steps: null"
    ):
        check_recipe(recipe(**{**CASES["bound"](), "objective": VariationalBound(9)}))
    with pytest.raises(ValueError, match=r"needs a network that learns its variance"):
        check_recipe(recipe(sampler=DDPM("learned")))
    with pytest.raises(ValueError, match="which objective Regression leaves untrained; set objective: Hybrid"):
        check_recipe(recipe(backbone=network(2)))
    with pytest.raises(ValueError, match="LearnedUncertainty leaves the learned variance untrained"):
        check_recipe(recipe(backbone=network(2), objective=LearnedUncertainty()))
    with pytest.raises(ValueError, match=r"the backbone returned \(1, 3, 8, 8\)"):
        check_recipe(recipe(backbone=network(3)))
    with pytest.raises(
        ValueError,
        match=r"LossSecondMoment counts the entries of a table, and Cosine is no table",
    ):
        check_recipe(recipe(density=LossSecondMoment()))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Hybrid(-1.0), lambda: Hybrid(steps=1), lambda: Hybrid(bins=1), lambda: VariationalBound(0),
        lambda: LearnedUncertainty(3),
    ],
)  # fmt: skip
def test_refusals(make):
    with pytest.raises(ValueError, match="allowed"):
        make()


def test_a_run_of_before_there_were_objectives_can_go_on(tmp_path):
    """Keys that its recipe lacks are those that came later, with their defaults."""
    r = recipe()
    train(replace(r, steps=2), tmp_path, progress=False)
    found = newest(tmp_path / "checkpoints")
    state = {**found.state, "recipe": {k: v for k, v in found.state["recipe"].items() if k != "objective"}}
    RunFolder(tmp_path, replace(r, steps=2))._compare(replace(found, state=state), r.data.fingerprint, False)
    with pytest.raises(ValueError, match=r"objective was .*Regression, is .*LearnedUncertainty"):
        RunFolder(tmp_path, replace(r, steps=2, objective=LearnedUncertainty()))._compare(
            replace(found, state=state), r.data.fingerprint, False
        )
    assert load(tmp_path).num_classes == 10


def test_constant_weight_on_the_row_is_the_plain_error():
    batch, out = seen(Cosine()), Outputs(torch.zeros(5, 1, 4, 4, dtype=torch.float64))
    for row in (V(), EDM(0.5)):
        found = Regression()(Denoiser(out, Cosine(), row, TimeClock()), None, Constant(row), batch)
        assert torch.allclose(found.loss, found.error, rtol=1e-6)
