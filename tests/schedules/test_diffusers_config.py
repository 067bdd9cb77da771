"""Configs of diffusers schedulers, class by class, against the schedulers themselves."""

import importlib.util
import inspect
import json
import math
import sys
import types
import warnings

import diffusers
import numpy as np
import pytest
import torch

from sfumato.schedules import (
    EDM,
    X0,
    Eps,
    Flow,
    Laplace,
    LinearBeta,
    Negative,
    RectifiedFlow,
    Score,
    Shifted,
    Table,
    Truncated,
    V,
    VarianceExploding,
    target,
)
from sfumato.schedules.diffusers_betas import alphas_cumprod
from sfumato.schedules.diffusers_defaults import DYNAMIC, KNOWN, REFUSED, complete

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers", "ignore:__array:DeprecationWarning")
# not importable by name: two need torchsde (only when they sample), two are deprecated
HIDDEN = {
    "CosineDPMSolverMultistepScheduler": "scheduling_cosine_dpmsolver_multistep",
    "DPMSolverSDEScheduler": "scheduling_dpmsolver_sde",
    "KarrasVeScheduler": "deprecated.scheduling_karras_ve",
    "ScoreSdeVpScheduler": "deprecated.scheduling_sde_vp",
}
EXPORTED = {
    name for place in (diffusers, diffusers.schedulers) for name in dir(place) if name.endswith("Scheduler")
}  # fmt: skip


def class_of(name):
    if name not in HIDDEN:
        return getattr(diffusers if hasattr(diffusers, name) else diffusers.schedulers, name)
    with pytest.MonkeyPatch.context() as patch:
        if importlib.util.find_spec("torchsde") is None:
            patch.setitem(sys.modules, "torchsde", types.ModuleType("torchsde"))
        return getattr(importlib.import_module(f"diffusers.schedulers.{HIDDEN[name]}"), name)


def make(name, **config):
    return class_of(name)(**config)


def signature(name):
    parameters = inspect.signature(class_of(name).__init__).parameters
    return {key: p.default for key, p in parameters.items() if p.default is not p.empty}


TABLES = sorted(name for name, known in KNOWN.items() if known.kind == "table")


def variants():
    """Every table class with its defaults, each beta schedule, zero SNR, another length, and betas given."""
    for name in TABLES:
        known = KNOWN[name]
        yield name, {}
        yield name, {"num_train_timesteps": 77}
        for betas in known.betas:
            yield name, {"beta_schedule": betas}
            if "rescale_betas_zero_snr" in known.defaults:
                yield name, {"beta_schedule": betas, "rescale_betas_zero_snr": True}
                yield name, {"beta_schedule": betas, "rescale_betas_zero_snr": True, "num_train_timesteps": 50}
        if "beta_start" in known.defaults:
            yield name, {"beta_start": 0.002, "beta_end": 0.03, "num_train_timesteps": 200}
            yield name, {"trained_betas": np.linspace(0.001, 0.05, 123) ** 1.1}
        if "snr_shift_scale" in known.defaults:
            yield name, {"snr_shift_scale": 1.7, "rescale_betas_zero_snr": True}


VARIANTS = list(variants())


@pytest.mark.filterwarnings("ignore:this is the table:UserWarning")
@pytest.mark.parametrize(("name", "config"), VARIANTS, ids=lambda v: v if isinstance(v, str) else "-".join(v))
def test_a_table_is_that_of_its_scheduler(name, config):
    theirs = make(name, **config)
    exact = alphas_cumprod(complete(name, config))
    floored = config.get("rescale_betas_zero_snr") and float(theirs.alphas_cumprod[-1]) == 2**-24
    end = -1 if floored else len(exact)
    assert exact.dtype == theirs.alphas_cumprod.dtype
    assert torch.equal(exact[:end], theirs.alphas_cumprod[:end])
    for source in (theirs, {"_class_name": name, **config}):
        schedule = Table.from_diffusers(source).schedule
        ours = [schedule((i + 1) / schedule.steps).alpha ** 2 for i in range(schedule.steps)]
        assert ours[:end] == pytest.approx(theirs.alphas_cumprod.tolist()[:end], rel=0, abs=1e-12)
        if config.get("rescale_betas_zero_snr"):
            assert ours[-1] == 0.0


def test_who_floors_zero_snr():
    """Only the last entry differs, by 2^-24, and only in these four; the test above compares the others."""
    floored = {
        name
        for name in TABLES
        if "rescale_betas_zero_snr" in KNOWN[name].defaults
        and float(make(name, rescale_betas_zero_snr=True).alphas_cumprod[-1]) != 0
    }
    assert floored == {
        "DPMSolverMultistepScheduler",
        "EulerAncestralDiscreteScheduler",
        "EulerDiscreteScheduler",
        "UniPCMultistepScheduler",
    }


def test_every_exported_class_is_read_or_refused():
    assert set(KNOWN) | set(REFUSED) == EXPORTED
    assert not set(KNOWN) & set(REFUSED)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refused_by_name_with_a_reason(name):
    with pytest.raises(ValueError, match=f"^{name} has no path.*; supported: .*DDPMScheduler"):
        Table.from_diffusers({"_class_name": name})


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_defaults_are_those_of_the_class(name):
    theirs, ours = signature(name), dict(KNOWN[name].defaults)
    # what pipelines assume, and what LTXEulerAncestralRF hands on, is in no signature of these
    handed = signature("FlowMatchEulerDiscreteScheduler") if name == "LTXEulerAncestralRFScheduler" else DYNAMIC
    assert ours == {key: {**handed, **theirs}[key] for key in ours}
    assert {k: type(v) for k, v in ours.items()} == {k: type({**handed, **theirs}[k]) for k in ours}
    matter = {
        "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr", "snr_shift_scale", "prediction_type",
        "use_flow_sigmas", "flow_shift", "shift", "use_dynamic_shifting", "time_shift_type", "invert_sigmas", "sigma_data",
        "sigma_schedule", "rho", "s", "scaler", "beta_min", "beta_max", "timestep_type", *DYNAMIC,
    }  # fmt: skip
    unread = {"IPNDMScheduler": {"trained_betas"}}.get(name, set())
    assert matter & set(theirs) <= set(ours) | unread


@pytest.mark.parametrize(
    "name", ["EDMEulerScheduler", "EDMDPMSolverMultistepScheduler", "CosineDPMSolverMultistepScheduler"]
)
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("kind", ["karras", "exponential"])
def test_edm(name, prediction, kind):
    theirs = make(name, prediction_type=prediction, sigma_schedule=kind, sigma_data=0.7)
    path, row = Table.from_diffusers(theirs)
    assert row == (Negative(EDM(0.7)) if prediction == "v_prediction" else EDM(0.7))
    assert path == VarianceExploding(
        theirs.config.sigma_min, theirs.config.sigma_max, 7.0 if kind == "karras" else math.inf
    )
    x0, eps = torch.randn(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for sigma in (0.31, 1.0, 60.0):
        level = path.at_log_snr(-2 * math.log(sigma))
        assert theirs.precondition_outputs(x0 + sigma * eps, target(row, level, x0, eps), sigma).allclose(
            x0, atol=1e-12
        )
        assert float(theirs.precondition_inputs(torch.ones(()), sigma)) == pytest.approx(
            (sigma**2 + row.input_std**2) ** -0.5
        )
    theirs.set_timesteps(9)
    assert [path(1 - i / 8).sigma for i in range(9)] == pytest.approx(theirs.sigmas[:9].tolist(), rel=2e-6)


def test_cosine_dpm_from_its_config_alone():
    assert Table.from_diffusers({"_class_name": "CosineDPMSolverMultistepScheduler"}) == (
        VarianceExploding(0.3, 500.0, math.inf),
        Negative(EDM(1.0)),
    )


def test_score_sde():
    theirs = make("ScoreSdeVeScheduler")
    path, row = Table.from_diffusers(theirs)
    assert (path, row) == (VarianceExploding(0.01, 1348.0, math.inf), Score())
    assert [path(i / 1999).sigma for i in range(2000)] == pytest.approx(theirs.discrete_sigmas.tolist(), rel=2e-6)
    assert [path(t).sigma for t in theirs.timesteps.tolist()] == pytest.approx(theirs.sigmas.tolist(), rel=2e-6)
    assert Table.from_diffusers(make("ScoreSdeVpScheduler")) == (LinearBeta(0.1, 20.0), Eps())


def test_ipndm_is_the_angle_and_v():
    theirs = make("IPNDMScheduler", num_train_timesteps=20)
    path, row = Table.from_diffusers(theirs)
    assert row == V()
    levels = [path(float(t)) for t in theirs.timesteps]
    assert [v.alpha for v in levels] == pytest.approx(theirs.alphas[:-1].tolist(), abs=1e-6)
    assert [v.sigma for v in levels] == pytest.approx(theirs.betas[:-1].tolist(), abs=1e-6)
    for i in (3, 12):  # its estimate of eps, from a network that is right
        level = levels[i]
        x0, eps = torch.randn(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        x = level.alpha * x0 + level.sigma * eps
        assert (x * theirs.betas[i] + target(row, level, x0, eps) * theirs.alphas[i]).allclose(eps, atol=1e-5)


@pytest.mark.parametrize("s", [0.008, 0.05])
def test_wuerstchen_is_the_cosine_between_its_clamps(s):
    theirs = make("DDPMWuerstchenScheduler", s=s)
    path, row = Table.from_diffusers(theirs)
    assert row == Eps()
    assert [path(t).alpha ** 2 for t in (0.0, 1.0)] == pytest.approx([0.9999, 0.0001], rel=1e-9)
    inner = path.schedule
    for t in (0.1, 0.4, 0.9):
        abar = float(theirs._alpha_cumprod(torch.tensor([t]), "cpu"))
        assert inner(t).alpha ** 2 == pytest.approx(abar, abs=2e-7)


def test_continuous_euler_is_variance_preserving_between_its_sigmas():
    """Stable Video Diffusion."""
    config = {
        "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "prediction_type": "v_prediction",
        "sigma_max": 700.0, "sigma_min": 0.002, "timestep_type": "continuous", "use_karras_sigmas": True,
    }  # fmt: skip
    theirs = make("EulerDiscreteScheduler", **config)
    path, row = Table.from_diffusers(theirs)
    assert row == V()
    assert (path(1.0).ratio, path(0.0).ratio) == pytest.approx((700.0, 0.002), rel=1e-9)
    theirs.set_timesteps(12)
    x0, eps = torch.randn(2, 1, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for i, sigma in enumerate(theirs.sigmas[:-1].double().tolist()):
        level = path.at_log_snr(-2 * math.log(sigma))
        x = x0 + sigma * eps
        theirs._step_index = i
        seen = theirs.scale_model_input(x, theirs.timesteps[i])
        assert seen.allclose(level.alpha * x0 + level.sigma * eps, rtol=1e-5, atol=1e-6)
        found = theirs.step(target(row, level, x0, eps), theirs.timesteps[i], x).pred_original_sample
        assert found.double().allclose(x0, atol=2e-4 * max(1.0, sigma))
    # without sigmas of its own, the ends of its table; without v, a table like any other
    table = Table.from_diffusers({"_class_name": "EulerDiscreteScheduler"}).schedule
    ends = Table.from_diffusers(
        {"_class_name": "EulerDiscreteScheduler", **config, "sigma_max": None, "sigma_min": None}
    )
    assert isinstance(ends.schedule, Truncated)
    assert ends.schedule.log_snr_max == pytest.approx(7.069424, abs=2e-4)
    assert table.log_snr[0] > ends.schedule.log_snr_max
    assert (
        Table.from_diffusers({"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous"}).schedule == table
    )


@pytest.mark.parametrize(
    ("prediction", "row"),
    [("epsilon", Eps()), ("sample", X0()), ("original_sample", X0()), ("v_prediction", V())],
)
def test_rows(prediction, row):
    assert Table.from_diffusers({"_class_name": "EulerDiscreteScheduler", "prediction_type": prediction}).row == row


def test_repaint_has_no_prediction_type():
    assert Table.from_diffusers({"_class_name": "RePaintScheduler", "prediction_type": "v_prediction"}).row == Eps()


FLOWS = sorted(name for name, known in KNOWN.items() if known.kind == "flow")
SOLVERS = sorted(name for name in TABLES if "use_flow_sigmas" in KNOWN[name].defaults)


@pytest.mark.parametrize("name", FLOWS)
def test_flows(name):
    assert Table.from_diffusers(make(name)) == (RectifiedFlow(), Flow())
    assert Table.from_diffusers({"_class_name": name, "shift": 3}) == (Shifted(RectifiedFlow(), 3.0), Flow())


@pytest.mark.parametrize("name", ["FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_a_shift_is_that_of_training(name, shift):
    """The thousand sigmas that a scheduler is made with, and that training scripts draw from."""
    theirs = make(name, shift=shift)
    path = Table.from_diffusers(theirs).schedule
    assert [path(1 - i / 1000).sigma for i in range(1000)] == pytest.approx(theirs.sigmas[:1000].tolist(), abs=2e-7)


@pytest.mark.parametrize("name", [f"FlowMatch{n}Scheduler" for n in ("EulerDiscrete", "HeunDiscrete", "LCM")])
def test_diffusers_shifts_its_clean_end_twice(name):
    theirs = make(name, shift=3.0)
    path = Table.from_diffusers(theirs).schedule
    once = path(1 / 1000).sigma
    assert once == pytest.approx(0.002994, abs=5e-7)
    theirs.set_timesteps(8)
    assert float(theirs.sigmas[-2]) == pytest.approx(0.008929, abs=5e-7)
    assert float(theirs.sigmas[-2]) == pytest.approx(3 * once / (1 + 2 * once), abs=5e-7)


@pytest.mark.parametrize("name", SOLVERS)
def test_flow_sigmas_of_solvers(name):
    config = {"use_flow_sigmas": True, "flow_shift": 3.0, "prediction_type": "flow_prediction"}
    theirs = make(name, **config)
    assert Table.from_diffusers(theirs) == (Shifted(RectifiedFlow(), 3.0), Flow())
    assert Table.from_diffusers({"_class_name": name, **config, "flow_shift": 1.0}).schedule == RectifiedFlow()
    assert Table.from_diffusers({"_class_name": name, **config, "prediction_type": "epsilon"}).row == Eps()
    assert theirs._sigma_to_alpha_sigma_t(torch.tensor(0.25)) == (0.75, 0.25)
    with pytest.raises(ValueError, match="a flow needs use_flow_sigmas: true"):
        Table.from_diffusers({"_class_name": name, "prediction_type": "flow_prediction"})


@pytest.mark.parametrize(
    "name", ["FlowMatchEulerDiscreteScheduler", "FlowMatchLCMScheduler", "UniPCMultistepScheduler"]
)
@pytest.mark.parametrize("kind", ["exponential", "linear"])
def test_dynamic_shift(name, kind):
    config = {
        "use_dynamic_shifting": True,
        "time_shift_type": kind,
        "flow_shift": 9.0,
        "shift": 9.0,
        "use_flow_sigmas": True,
    }
    # FLUX: linear between 256 tokens and 4096
    for tokens, mu in ((256, 0.5), (4096, 1.15), (1024, 0.63)):
        path = Table.from_diffusers({"_class_name": name, **config}, tokens=tokens).schedule
        assert path.shift == pytest.approx(math.exp(mu) if kind == "exponential" else mu, rel=1e-12)
        shifted = make(name, use_dynamic_shifting=True, time_shift_type=kind).time_shift(mu, 1.0, torch.tensor(0.3))
        assert path(0.3).sigma == pytest.approx(float(shifted), abs=1e-6)
    with pytest.raises(ValueError, match="shifts by the sequence length, and tokens is None"):
        Table.from_diffusers({"_class_name": name, **config})


def test_laplace_is_not_laplace():
    with pytest.warns(UserWarning, match="not the Laplace schedule.*use Laplace") as caught:
        theirs = Table.from_diffusers({"_class_name": "DDPMScheduler", "beta_schedule": "laplace"}).schedule
    assert caught[0].filename == __file__
    assert [theirs(t).log_snr for t in (0.5, 0.75)] == pytest.approx([0.883, 0.592], abs=5e-4)
    assert [Laplace()(t).log_snr for t in (0.5, 0.75)] == pytest.approx([0.0, -0.347], abs=5e-4)
    assert theirs(1.0).alpha ** 2 == pytest.approx(0.0316, abs=5e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Table.from_diffusers({"_class_name": "DDPMScheduler", "beta_schedule": "linear"})


def test_keys_left_out_take_the_defaults_of_the_class():
    heun, ddpm = (Table.from_diffusers({"_class_name": f"{n}Scheduler"}).schedule for n in ("HeunDiscrete", "DDPM"))
    assert [s(0.001).sigma ** 2 for s in (heun, ddpm)] == pytest.approx([0.00085, 0.0001], rel=1e-3)
    assert heun.steps == ddpm.steps == 1000


def test_round_trip_through_a_folder(tmp_path):
    theirs = make(
        "DDIMScheduler", beta_schedule="scaled_linear", prediction_type="v_prediction", num_train_timesteps=500
    )
    theirs.save_pretrained(tmp_path / "scheduler")
    given = Table.from_diffusers(theirs)
    assert (given.row, given.schedule.steps) == (V(), 500)
    file = tmp_path / "scheduler" / "scheduler_config.json"
    for source in (tmp_path, tmp_path / "scheduler", str(tmp_path), file, str(file), json.loads(file.read_text())):
        assert Table.from_diffusers(source) == given


@pytest.mark.parametrize("name", sorted(set(KNOWN) - {"RePaintScheduler"}))
def test_a_saved_config_says_what_the_scheduler_says(name, tmp_path):
    config = {"trained_betas": np.linspace(0.001, 0.05, 40)} if "beta_start" in KNOWN[name].defaults else {}
    theirs = make(name, **config)
    theirs.save_pretrained(tmp_path)
    assert Table.from_diffusers(tmp_path) == Table.from_diffusers(theirs)


def test_files_that_are_none(tmp_path):
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    for source, message in [
        (tmp_path / "absent", "is no file, and no folder that holds a scheduler_config.json; allowed: a scheduler"),
        ("stabilityai/sdxl-turbo", "nothing is downloaded"),
        (tmp_path, "no folder that holds"),
        (tmp_path / "model_index.json", "'StableDiffusionPipeline', which is no scheduler"),
        (tmp_path / "broken.json", "is not JSON"),
        (tmp_path / "list.json", "names no _class_name"),
        ({"beta_start": 1e-4}, "without _class_name"),
        (7, "a int is no scheduler"),
        (torch.nn.Linear(1, 1), "a Linear is no scheduler"),
    ]:
        with pytest.raises(ValueError, match=message):
            Table.from_diffusers(source)


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("DDPMSheduler", {}, r"did you mean DDPMScheduler\?\); supported: "),
        ("DDPM", {"beta_schedule": "cubic"}, "beta_schedule is 'cubic'; allowed: linear, scaled_linear, squaredcos_cap_v2, laplace"),
        ("DDIM", {"beta_schedule": "laplace"}, "beta_schedule is 'laplace'; allowed: linear, scaled_linear, squaredcos_cap_v2$"),
        ("DDIM", {"prediction_type": "foo"}, "prediction_type is 'foo'; allowed: epsilon, sample, v_prediction$"),
        ("PNDM", {"prediction_type": "sample"}, "allowed: epsilon, v_prediction$"),
        ("UnCLIP", {"beta_schedule": "linear"}, "allowed: squaredcos_cap_v2$"),
        ("DDPM", {"num_train_timesteps": 1}, "num_train_timesteps is 1; allowed: a whole number >= 2"),
        ("DDPM", {"num_train_timesteps": 1e3}, "a whole number"),
        ("DDPM", {"beta_start": "small"}, "beta_start is 'small'; allowed: a finite number"),
        ("DDPM", {"beta_start": None}, "beta_start is None"),
        ("DDPM", {"beta_end": -0.1}, "beta_end is -0.1; allowed: 0 < beta < 1"),
        ("DDPM", {"rescale_betas_zero_snr": "yes"}, "is 'yes'; allowed: true, false"),
        ("DDPM", {"trained_betas": "many"}, "DDPMScheduler: its betas make no table"),
        ("DDPM", {"trained_betas": [0.1, 0.0]}, "entry 0 is 2.197.*falling"),
        ("CogVideoXDDIM", {"snr_shift_scale": 0.0}, "CogVideoXDDIMScheduler: its betas make no table"),
        ("EDMEuler", {"prediction_type": "sample"}, "allowed: epsilon, v_prediction"),
        ("EDMEuler", {"sigma_schedule": "linear"}, "sigma_schedule is 'linear'; allowed: karras, exponential"),
        ("EDMEuler", {"sigma_min": 90.0}, "low < high"),
        ("EulerDiscrete", {"timestep_type": "fuzzy"}, "allowed: discrete, continuous"),
        ("DDPMWuerstchen", {"scaler": 2.0}, "scaler is 2.0; allowed: 1: another one bends"),
        ("FlowMatchEulerDiscrete", {"shift": 0}, "Shifted.shift is 0"),
        ("FlowMatchEulerDiscrete", {"use_dynamic_shifting": True, "base_shift": None}, "needs two lengths"),
        ("FlowMatchEulerDiscrete", {"use_dynamic_shifting": True, "time_shift_type": "cubic"}, "allowed: exponential, linear"),
    ],
)  # fmt: skip
def test_mistakes(name, config, message):
    name = name if name.endswith("eduler") else f"{name}Scheduler"
    with pytest.raises(ValueError, match=message):
        Table.from_diffusers({"_class_name": name, **config}, tokens=1024)


def test_flows_towards_data():
    """MiniMax: its x0 is x + sigma * output. Mochi: the same, by inverted sigmas."""
    theirs = make("MiniMaxH3Scheduler")
    assert Table.from_diffusers(theirs) == (Shifted(RectifiedFlow(), 12.0), Negative(Flow()))
    mochi = {"_class_name": "FlowMatchEulerDiscreteScheduler", "invert_sigmas": True}
    assert Table.from_diffusers(mochi) == (RectifiedFlow(), Negative(Flow()))
    theirs.set_timesteps(3)
    x0, eps = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    sigma = float(theirs.sigmas[1])
    x = (1 - sigma) * x0 + sigma * eps
    theirs._step_index = 1
    assert theirs.step(x0 - eps, theirs.timesteps[1], x).prev_sample.allclose(x0, atol=1e-5)


def test_a_misspelt_key_is_not_taken_for_one_of_sampling():
    with pytest.raises(ValueError, match=r"betaend: no key of DDIMScheduler; did you mean beta_end\?"):
        Table.from_diffusers({"_class_name": "DDIMScheduler", "betaend": 1.0})
    for name in KNOWN:  # no class's own keys are mistaken for another's
        config = {k: v for k, v in dict(make(name).config).items() if not k.startswith("_")}
        Table.from_diffusers({"_class_name": name, **config}, tokens=1024)
