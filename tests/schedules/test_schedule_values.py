"""Schedules: golden values, closed forms and identities of each, and what they refuse."""

import math

import pytest
import torch

from sfumato.schedules import (
    BetaTable,
    Cauchy,
    Cosine,
    CosineGamma,
    CosineShifted,
    InputScaled,
    Laplace,
    LinearBeta,
    LinearGamma,
    RectifiedFlow,
    ScaledLinearBeta,
    Shifted,
    Sigmoid,
    Table,
    VarianceExploding,
    ZeroTerminalSNR,
    log_snr_density,
)


def tensor(value):
    return torch.tensor(value, dtype=torch.float64)


GAMMAS = (0.1, 0.25, 0.5, 0.75, 0.9)


@pytest.mark.parametrize(
    ("schedule", "golden"),
    [
        (Sigmoid(-3, 3, 1), (0.96050722, 0.85085355, 0.5, 0.14914645, 0.03949278)),
        (Sigmoid(-3, 3, 0.5), (0.99428177, 0.95482334, 0.5, 0.04517666, 0.00571823)),
        (Sigmoid(0, 3, 0.3), (0.53784088, 0.15163933, 0.01329611, 0.00101485, 0.00015601)),
        (Sigmoid(0, 3, 0.7), (0.78304383, 0.49659359, 0.18795092, 0.05150811, 0.01462553)),
        (CosineGamma(0, 1, 1), (0.97552826, 0.85355339, 0.5, 0.14644661, 0.02447174)),
        (CosineGamma(0.2, 1, 1), (0.90514572, 0.72360680, 0.38196601, 0.10557281, 0.01736680)),
        (CosineGamma(0.2, 1, 2), (0.81928877, 0.52360680, 0.14589803, 0.01114562, 0.00030161)),
        (LinearGamma(), (0.9, 0.75, 0.5, 0.25, 0.1)),
    ],
    ids=str,
)
def test_gamma_golden(schedule, golden):
    assert [schedule(t).alpha ** 2 for t in GAMMAS] == pytest.approx(golden, abs=6e-9)


@pytest.mark.parametrize(
    ("kind", "golden"),
    [
        (
            "linear",
            {0: 0.9999, 1: 0.9997800921, 249: 0.5240853738, 499: 0.0785872429, 749: 0.0033505504, 999: 4.035829765e-05},
        ),
        (
            "scaled_linear",
            {0: 0.99915, 1: 0.9982960278, 249: 0.6754324137, 499: 0.2776696505, 998: 0.0047166989, 999: 0.0046600985},
        ),
        (
            "cosine",
            {0: 0.9999587158, 249: 0.8470121613, 499: 0.4938435904, 998: 2.428766907e-06, 999: 2.428766907e-09},
        ),
    ],
)
def test_tables_golden(kind, golden):
    schedule = BetaTable(kind)
    for i, abar in golden.items():
        assert schedule((i + 1) / 1000).alpha ** 2 == pytest.approx(abar, rel=2e-9 if abar < 1e-3 else 1e-12, abs=6e-11)


@pytest.mark.parametrize(
    ("kind", "i", "log_snr"),
    [
        ("linear", 0, 9.210240), ("linear", 249, 0.096416), ("linear", 499, -2.461699), ("linear", 999, -10.117673),
        ("scaled_linear", 0, 7.069424), ("scaled_linear", 499, -0.956050), ("scaled_linear", 999, -5.364048),
    ],
)  # fmt: skip
def test_tables_golden_log_snr(kind, i, log_snr):
    assert BetaTable(kind)((i + 1) / 1000).log_snr == pytest.approx(log_snr, abs=6e-7)


def test_sd_range_of_sigma():
    table = BetaTable("scaled_linear")
    assert (table(0.001).ratio, table(1.0).ratio) == pytest.approx((0.0291672, 14.6146412), rel=2e-6)
    assert table(1.0).alpha == pytest.approx(0.0682649, abs=5e-8)


@pytest.mark.parametrize("steps", [50, 100, 1000, 4000])
def test_cosine_table_is_the_continuous_one_but_for_its_last_entry(steps):
    """max_beta touches the last beta only; the ratios telescope to the normalised function."""
    table, continuous = BetaTable("cosine", steps), Cosine()
    for i in range(steps - 1):
        assert table((i + 1) / steps).alpha == pytest.approx(continuous((i + 1) / steps).alpha, rel=1e-9)
    beta = 1 - (table(1.0).alpha / table(1 - 1 / steps).alpha) ** 2
    assert beta == pytest.approx(0.999, abs=1e-12)


def test_improved_diffusion_scales_the_linear_table():
    assert BetaTable("linear", 4000)(1.0).alpha ** 2 == pytest.approx(BetaTable("linear")(1.0).alpha ** 2, rel=0.06)
    assert 1 - BetaTable("linear", 4000)(1 / 4000).alpha ** 2 == pytest.approx(1e-4 / 4, rel=1e-12)


@pytest.mark.parametrize(
    ("kind", "golden"),
    [
        (
            "scaled_linear",
            {0: 0.99915, 1: 0.9982334461, 99: 0.8880858948, 249: 0.6541890065, 499: 0.2423591666, 749: 0.0331714828,
             899: 0.0030330724, 998: 1.968e-07, 999: 0.0},
        ),
        ("linear", {249: 0.5215333407, 499: 0.0760287505, 749: 0.0026895217, 998: 4.2e-09, 999: 0.0}),
    ],
)  # fmt: skip
def test_zero_terminal_golden_tables(kind, golden):
    """Lin et al.'s algorithm 1: the first entry keeps its place, the last is exactly zero."""
    rescaled = ZeroTerminalSNR(BetaTable(kind))
    for i, abar in golden.items():
        assert rescaled((i + 1) / 1000).alpha ** 2 == pytest.approx(abar, abs=6e-11)
    assert rescaled(1.0).alpha == 0.0


def test_zero_terminal_table_golden_log_snr_and_betas():
    rescaled = ZeroTerminalSNR(BetaTable("scaled_linear"))
    assert rescaled(0.5).log_snr == pytest.approx(-1.139789, abs=1e-6)
    assert rescaled(0.999).log_snr == pytest.approx(-15.441135, abs=1e-5)
    alphas = [1.0, *(rescaled((i + 1) / 1000).alpha for i in range(1000))]
    golden = {0: 0.00085, 1: 0.00091733, 499: 0.00551578, 998: 0.75113700, 999: 1.0}
    for i, beta in golden.items():
        assert 1 - (alphas[i + 1] / alphas[i]) ** 2 == pytest.approx(beta, abs=6e-9)


@pytest.mark.parametrize("inner", [BetaTable("scaled_linear"), LinearBeta(), ScaledLinearBeta()], ids=str)
def test_zero_terminal_twice_is_once(inner):
    once = ZeroTerminalSNR(inner)
    twice = ZeroTerminalSNR(once)
    for t in (0.0, 1e-4, 0.001, 0.002, 0.3, 0.7, 0.999, 0.9995, 1.0):
        assert twice(t).alpha == pytest.approx(once(t).alpha, abs=1e-15)
        assert twice(t).sigma == pytest.approx(once(t).sigma, abs=1e-15)


@pytest.mark.parametrize(
    ("t", "log_snr"),
    [(0.001, 3.10730405), (0.01, 1.95601150), (0.1, 0.80471896), (0.25, 0.34657359), (0.5, 0.0), (0.75, -0.34657359), (0.9, -0.80471896)],
)  # fmt: skip
def test_laplace_golden(t, log_snr):
    assert Laplace()(t).log_snr == pytest.approx(log_snr, abs=6e-9)


def test_importance_golden():
    assert Laplace()(0.1).alpha ** 2 == pytest.approx(0.69098301, abs=5e-9)
    assert [Cauchy()(t).log_snr for t in (0.01, 0.1, 0.25)] == pytest.approx([15.91025798, 1.53884177, 0.5], abs=6e-9)
    assert [Cosine(0.0)(t).log_snr for t in (0.1, 0.25, 0.5)] == pytest.approx([3.68546007, 1.76274717, 0.0], abs=6e-9)


@pytest.mark.parametrize(
    ("schedule", "density"),
    [
        (Laplace(0.3, 0.5), lambda v: torch.exp(-(v - 0.3).abs() / 0.5)),
        (Cauchy(0.3, 0.5), lambda v: 0.5 / (torch.pi * ((v - 0.3) ** 2 + 0.25))),
        (Cosine(0.0), lambda v: 1 / torch.cosh(v / 2) / (2 * torch.pi)),
        (CosineShifted(256.0, 64.0), lambda v: 1 / torch.cosh((v + 2 * math.log(4)) / 2) / (2 * torch.pi)),
        (RectifiedFlow(), lambda v: 0.125 / torch.cosh(v / 4) ** 2),
    ],
    ids=lambda part: "density" if callable(part) and not hasattr(part, "at_log_snr") else str(part),
)
def test_densities_in_closed_form(schedule, density):
    at = torch.linspace(-9, 9, 181, dtype=torch.float64)
    assert torch.allclose(log_snr_density(schedule, at), density(at), rtol=1e-12)


def test_density_of_a_number():
    assert log_snr_density(Cosine(0.0), 0.0) == pytest.approx(0.15915494, abs=6e-9)
    assert log_snr_density(LinearBeta(), -math.inf) == 0.0


def test_density_golden():
    at = torch.tensor([3.68546007, 1.76274717, 0.0], dtype=torch.float64)
    assert log_snr_density(Cosine(0.0), at).tolist() == pytest.approx([0.04918158, 0.11253954, 0.15915494], abs=6e-9)
    assert log_snr_density(Laplace(), torch.tensor([1e-12, 1.0], dtype=torch.float64)).tolist() == pytest.approx(
        [1.0, 0.13533528], abs=6e-9
    )


@pytest.mark.parametrize(
    ("t", "shifted"), [(0.1, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 0.9), (0.9, 0.964286), (0.0, 0.0), (1.0, 1.0)]
)
def test_shift_golden(t, shifted):
    level = Shifted(RectifiedFlow(), 3.0)(t)
    assert (level.t, level.sigma, level.alpha) == pytest.approx((t, shifted, 1 - shifted), abs=3.2e-7)


def test_shift_is_exact_in_log_snr_and_composes():
    assert Shifted(RectifiedFlow(), 3.0)(0.3).log_snr == pytest.approx(-0.5026288569, abs=1e-9)
    for t in (0.01, 0.3, 0.9):
        for inner in (RectifiedFlow(), Cosine(), LinearBeta(), VarianceExploding()):
            twice, once = Shifted(Shifted(inner, 1.7), 2.5), Shifted(inner, 1.7 * 2.5)
            assert twice(t).log_snr == pytest.approx(once(t).log_snr, abs=1e-12)
            assert once(t).log_snr == pytest.approx(inner(t).log_snr - 2 * math.log(4.25), abs=1e-12)
    # FLUX: 4096 tokens
    assert math.exp(1.15) == pytest.approx(3.158193, abs=5e-7)


@pytest.mark.parametrize(("b", "gamma"), [(0.5, 0.2), (0.7, 0.32885906), (0.1, 0.00990099)])
def test_input_scaling_golden(b, gamma):
    """gamma' = b^2 gamma / ((b^2 - 1) gamma + 1): the same noise as the shift by 1 / b on a variance-preserving path."""
    scaled, shifted = InputScaled(LinearGamma(), b), Shifted(LinearGamma(), 1 / b)
    assert shifted(0.5).alpha ** 2 == pytest.approx(gamma, abs=5e-9)
    for t in (0.01, 0.3, 0.5, 0.99):
        assert scaled(t).log_snr == pytest.approx(shifted(t).log_snr, abs=1e-12)
        assert scaled(t).log_snr == pytest.approx(LinearGamma()(t).log_snr + 2 * math.log(b), abs=1e-12)
        # what the network sees is the same, too: x / sqrt(b^2 alpha^2 + sigma^2)
        norm = math.hypot(scaled(t).alpha, scaled(t).sigma)
        assert (scaled(t).alpha / norm, scaled(t).sigma / norm) == pytest.approx(
            (shifted(t).alpha, shifted(t).sigma), abs=1e-13
        )


def test_cosine_shifted_is_the_shifted_cosine():
    for t in (0.01, 0.4, 0.8, 0.99):
        assert CosineShifted(256.0, 64.0)(t).log_snr == pytest.approx(Shifted(Cosine(0.0), 4.0)(t).log_snr, abs=1e-12)


def test_cosine_interpolated_is_the_formula_of_k_diffusion():
    """lambda(t) = t lambda_shift(noise_d_low) + (1 - t) lambda_shift(noise_d_high), t = 0 clean."""
    both = CosineShifted(size=128.0, noisy=32.0, clean=64.0)
    low, high = CosineShifted(128.0, 32.0), CosineShifted(128.0, 64.0)
    for t in (0.02, 0.25, 0.6, 0.97):
        assert both(t).log_snr == pytest.approx(t * low(t).log_snr + (1 - t) * high(t).log_snr, abs=1e-12)


def test_edm_path_is_its_sampling_grid():
    schedule = VarianceExploding()
    assert [schedule(1 - i / 17).sigma for i in (0, 1, 9, 17)] == pytest.approx([80, 57.586, 1.92334, 0.002], rel=5e-6)


def test_a_table_is_exact_at_its_entries_and_log_linear_between():
    table = Table([4.0, 1.0, -3.0])
    assert [table(t).log_snr for t in (1 / 3, 2 / 3, 1.0)] == pytest.approx([4.0, 1.0, -3.0], abs=1e-13)
    assert table(0.5).log_snr == pytest.approx(2.5, abs=1e-13)
    # towards data the angle is linear
    half = math.atan(math.exp(-2.0)) / 2
    assert (table(1 / 6).alpha, table(1 / 6).sigma) == pytest.approx((math.cos(half), math.sin(half)), abs=1e-14)


def test_from_alphas_cumprod_gives_them_back():
    given = [0.9999, 0.7, 0.2, 1e-9, 0.0]
    table = Table.from_alphas_cumprod(given)
    assert [table((i + 1) / 5).alpha ** 2 for i in range(5)] == pytest.approx(given, rel=1e-13)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Table([1.0]), "at least two"),
        (lambda: Table([1.0, 2.0]), "entry 0 is 1.0, entry 1 is 2.0"),
        (lambda: Table([math.nan, 2.0]), "not finite"),
        (lambda: Table([math.inf, 2.0]), "not finite"),
        (lambda: Table([1.0, 0.0], path="sideways"), "allowed: 'preserving'"),
        (lambda: Table([1.0, -math.inf], path="exploding"), "never reaches"),
        (lambda: Table.from_betas([0.1, 1.5]), r"outside \(0, 1\)"),
        (lambda: Table.from_alphas_cumprod([1.0, 0.5]), r"outside \[0, 1\)"),
        (lambda: BetaTable("cubic"), "allowed: 'linear', 'scaled_linear', 'cosine', 'sigmoid'"),
        (lambda: BetaTable("linear", 10), "0 < low < high < 1"),
        (lambda: BetaTable("cosine", low=0.1), "leave them out"),
        (lambda: Sigmoid(3.0, -3.0), "start < end"),
        (lambda: CosineGamma(0.5, 0.2), "0 <= start < end <= 1"),
        (lambda: Laplace(0.0, 0.0), "scale > 0"),
        (lambda: Sigmoid(-60.0, 3.0), "within 50 tau"),
        (lambda: VarianceExploding(0.0, 80.0, 0.5), "rho >= 1"),
        (lambda: BetaTable("linear", s=0.1), "offset of 'cosine'"),
        (lambda: LinearBeta(0.1, math.inf), "high < inf"),
        (lambda: Table.from_betas([]), "at least two"),
        (lambda: ZeroTerminalSNR(VarianceExploding()), "not within it"),
        (lambda: Cauchy(math.inf), "mean finite"),
        (lambda: VarianceExploding(0.0, 80.0, math.inf), "low > 0 for rho = inf"),
        (lambda: CosineShifted(64.0, 64.0, 2000.0), "within a factor of 16"),
        (lambda: Shifted(Cosine(), 0.0), "Shifted.shift is 0.0"),
        (lambda: InputScaled(Cosine(), -1.0), "InputScaled.scale is -1.0"),
        (lambda: ScaledLinearBeta(2.0, 1.0), "0 < low < high"),
        (lambda: ZeroTerminalSNR(InputScaled(Cosine(), 0.5)), "variance-preserving"),
    ],
)
def test_refusals_of_the_rest(make, message):
    with pytest.raises(ValueError, match=message):
        make()
