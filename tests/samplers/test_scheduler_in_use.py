"""The scheduler in the hands of a pipeline: what it may write to, copy, get wrong, and give back."""

import copy
import pickle

import pytest
import torch

from sfumato.samplers import (
    DDIM,
    DDPM,
    PLMS,
    Clipped,
    DPMSolver2,
    DPMSolverPP,
    DPMSolverPP2S,
    HeavyBall,
    Heun,
    PredictorCorrector,
    UniPC,
    as_diffusers,
    from_diffusers,
)
from sfumato.schedules import (
    BetaTable,
    Karras,
    V,
)  # fmt: skip

# what diffusers does with NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_numbers_that_are_not_finite_are_an_error_not_a_black_picture():
    scheduler = as_diffusers(DPMSolverPP(2), BetaTable("scaled_linear"))
    scheduler.set_timesteps(3)
    x = torch.randn(1, 3, 4, 4)
    *first, last = scheduler.timesteps
    for t in first:
        x = scheduler.step(torch.full_like(x, float("nan")), t, x).prev_sample
    with pytest.raises(FloatingPointError, match="the network answered with nan"):
        scheduler.step(torch.full_like(x, float("nan")), last, x)


def test_our_own_scheduler_is_read_back(tmp_path):
    """As an object, a config and a folder: what was saved is what it was."""
    scheduler = as_diffusers(UniPC(3), BetaTable("scaled_linear"), "v_prediction", Karras(0.05, 10.0))
    scheduler.save_pretrained(tmp_path / "scheduler")
    for source in (scheduler, dict(scheduler.config) | {"_class_name": "SfumatoScheduler"}, tmp_path):
        sampling = from_diffusers(source)
        assert sampling == (UniPC(3), BetaTable("scaled_linear"), V(), Karras(0.05, 10.0))
        other = as_diffusers(DDIM(), like=source)
        assert (other.schedule, other.row) == (BetaTable("scaled_linear"), V())


def test_a_pipeline_is_not_its_scheduler():
    class Pipe:
        scheduler = None

    with pytest.raises(ValueError, match=r"a Pipe is a pipeline; give its scheduler, pipe.scheduler"):
        as_diffusers(DDIM(), like=Pipe())


def _walk(scheduler, change, net=torch.tanh, seed=0):
    scheduler.set_timesteps(4)
    x = torch.randn(1, 1, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    g = torch.Generator().manual_seed(1)
    for t in scheduler.timesteps:
        x = change(scheduler.step(net(x), t, x, generator=g).prev_sample)
    return x


@pytest.mark.parametrize("row", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize(
    "sampler",
    [Heun(), DPMSolver2(), DPMSolver2(1.0), DPMSolverPP2S(), PLMS(warm_up="rk4"), PredictorCorrector(Heun()), UniPC(2), DPMSolverPP(3)],
    ids=str,
)  # fmt: skip
def test_writing_into_a_returned_sample_is_changing_it(sampler, row):
    """Also within a step of several evaluations: in place, and into a new tensor."""
    ends = []
    with torch.no_grad():
        for change in (lambda x: x.mul_(0.9), lambda x: x * 0.9):
            ends.append(_walk(as_diffusers(sampler, BetaTable("scaled_linear"), row), change))
    assert torch.allclose(*ends, rtol=1e-9, atol=1e-12)
    with torch.enable_grad():
        written = _walk(as_diffusers(sampler, BetaTable("scaled_linear"), row), lambda x: x * 0.9)
    assert torch.allclose(ends[0], written, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("row", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("sampler", [DDIM(), DPMSolverPP(2), UniPC(2), Heun(), HeavyBall(DPMSolverPP(2))], ids=str)
def test_what_is_returned_is_the_callers(sampler, grad, row):
    """A preview that is written to, and a network that answers in one buffer at last, change no picture."""
    buffer = torch.empty(1, 1, 2, 2, dtype=torch.float64)

    def run(preview, reused):
        scheduler = as_diffusers(sampler, BetaTable("scaled_linear"), row)
        scheduler.set_timesteps(4)
        x = torch.randn(1, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        for i, t in enumerate(scheduler.timesteps):
            out = torch.tanh(x)
            if reused and i == len(scheduler.timesteps) - 1:
                out = buffer.copy_(out)
            found = scheduler.step(out, t, x)
            x = found.prev_sample
            preview(found.pred_original_sample)
        buffer.fill_(7.0)
        return x

    with torch.set_grad_enabled(grad):
        assert torch.equal(run(lambda v: v.mul_(0.5).add_(0.5), True), run(lambda v: None, False))


def test_copies():
    """Fresh and finished schedulers are copied and pickled; a copy made within a walk says that it can't go on."""
    scheduler = as_diffusers(UniPC(2), BetaTable("scaled_linear"))
    for make in (copy.deepcopy,):
        assert pickle.dumps(scheduler)  # no lambda within
        wanted = _walk(scheduler, lambda x: x)
        assert torch.equal(_walk(make(scheduler), lambda x: x), wanted)
        scheduler.set_timesteps(4)
        x = torch.ones(1, 1, 2, 2, dtype=torch.float64)
        x = scheduler.step(torch.tanh(x), scheduler.timesteps[0], x).prev_sample
        within = make(scheduler)
        with pytest.raises(
            ValueError, match="is a copy that was made within a walk and can't go on; call set_timesteps"
        ):
            within.step(torch.tanh(x), within.timesteps[1], x)
        assert torch.equal(_walk(within, lambda x: x), wanted)
        shared = copy.copy(scheduler)
        scheduler.step(torch.tanh(x), scheduler.timesteps[1], x)
        with pytest.raises(
            ValueError, match="evaluation 1 is not the next one, 2; does another loop use this scheduler"
        ):
            shared.step(torch.tanh(x), shared.timesteps[1], x)


@pytest.mark.parametrize("at", [0, 2])
def test_an_error_within_a_walk_ends_it_by_name(at):
    scheduler = as_diffusers(DDPM(), BetaTable("scaled_linear"))
    scheduler.set_timesteps(4)
    x = torch.ones(2, 1, 2, 2, dtype=torch.float64)
    for i, t in enumerate(scheduler.timesteps[: at + 1]):
        if i == at:
            with pytest.raises((TypeError, AttributeError)):
                scheduler.step(torch.tanh(x), t, x, generator="none")
            with pytest.raises(ValueError, match="met an error within a walk and can't go on; call set_timesteps"):
                scheduler.step(torch.tanh(x), t, x)
        else:
            with pytest.raises(ValueError, match="model_output has shape"):  # found before anything is done
                scheduler.step(torch.tanh(x)[..., 0], t, x)
            x = scheduler.step(torch.tanh(x), t, x).prev_sample


def test_more_mistakes_are_named():
    table = BetaTable("scaled_linear")
    with pytest.raises(ValueError, match="clock is 5; allowed: a function of the level"):
        as_diffusers(DDIM(), table, clock=5)
    scheduler = as_diffusers(Clipped(DDIM(1.0)), table)
    scheduler.set_timesteps(3)
    x = torch.ones(2, 3, 2, 2)
    scheduler.step(x, scheduler.timesteps[0], x, eta=1.0)  # it has that eta, within
    plain = as_diffusers(DDIM(), table)
    plain.set_timesteps(3)
    for wrong in (torch.tensor([999, 999]), None, "a"):
        with pytest.raises(ValueError, match="allowed: one number"):
            plain.step(x, wrong, x)
    with pytest.raises(ValueError, match=r"noise has shape \(2, 1, 2, 2\)"):
        plain.add_noise(x, x[:, :1], torch.tensor([10]))
    with pytest.raises(ValueError, match="timesteps holds 3 for a batch of 2"):
        as_diffusers(DDIM(), table).add_noise(x, x, torch.tensor([1, 2, 3]))
