"""What a visitor writes into a box names a part and its numbers: it opens no file and imports no class."""

import builtins
import contextlib
import importlib
import io
import time

import pytest

from sfumato.guidance import CFG, Guidance, Interval
from sfumato.samplers import DPMSolverPP, HeavyBall, Sampler
from sfumato.samplers.filters import Filter
from sfumato.schedules import Grid
from sfumato.tools.demo.form import part
from sfumato.tools.demo.menus import GRIDS, RULES, SAMPLERS
from sfumato.tools.demo.plain_parts import check_said, plain_tree
from sfumato.tools.parts import choices, part_of, part_type
from sfumato.tools.resolve import fields_of

KINDS = (Sampler, Grid, Guidance, Filter)


def reachable(kinds):
    """Every class that a short name can stand for, at any depth."""
    found, todo = {}, list(kinds)
    while todo:
        kind = todo.pop()
        for cls in choices(kind).values():
            if cls not in found:
                found[cls] = {name: field.hint for name, field in fields_of(cls).items()}
                todo += [k for hint in found[cls].values() if (k := part_type(hint) or part_of(hint))]
    return found


def test_every_argument_that_takes_a_text_is_known():
    """Whoever adds a class whose argument is a text says here what it is: a word of the rule, or a file, which is refused."""
    texts = {
        f"{cls.__name__}.{name}"
        for cls, hints in reachable(KINDS).items()
        for name, hint in hints.items()
        if "str" in str(hint) and "Literal" not in str(hint)
    }
    words = {"APG.against", "Adaptive.against", "CFG.against", "CFGPlusPlus.against", "Mix.against", "Mix.weights"}
    assert texts - words == {"Calibrated.calibration", "Calibrated.allow", "LinearAdaptive.plan"}


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("LinearAdaptive(plan=secrets)", Guidance),
        ("LinearAdaptive('secrets')", Guidance),
        ("Interval(LinearAdaptive(secrets), 0, 1)", Guidance),
        ("Calibrated(filter=PathLength, calibration=secrets)", Filter),
        ("Calibrated(filter=PathLength, allow=[os])", Filter),
        ("Calibrated(PathLength, secrets)", Filter),
        ("LinearAdaptive(/etc/passwd)", Guidance),
        ("LinearAdaptive(..\\x)", Guidance),
        ("LinearAdaptive(plan.json)", Guidance),
        ("LinearAdaptive({class_path: os})", Guidance),
        ("os.system", Sampler),
        ("os . system(1)", Sampler),
        ("sfumato.diffusion.HuggingFaceText(x)", Grid),
        ("sfumato.samplers.DDIM", Sampler),
        ("HeavyBall(base=builtins.open)", Sampler),
        ("Judged(judge=sfumato.diffusion.load, threshold=1)", Filter),
        ("Mix(weights={a: &x [1], b: [*x, *x]})", Guidance),
        ("Explicit(values=!!python/name:os.system)", Grid),
    ],
    ids=str,
)
def test_no_file_is_opened_and_nothing_imported(said, kind, monkeypatch):
    asked = []
    monkeypatch.setattr(builtins, "open", lambda *argv, **more: asked.append(argv))
    monkeypatch.setattr(io, "open", lambda *argv, **more: asked.append(argv))
    monkeypatch.setattr("pathlib.Path.read_text", lambda *argv, **more: asked.append(argv))
    true_import = importlib.import_module
    monkeypatch.setattr(
        importlib,
        "import_module",
        lambda name, *more: true_import(name, *more) if name.startswith("sfumato.") else asked.append(name),
    )
    with pytest.raises(ValueError, match="rule"):
        plain_tree(said, kind, "rule")
    assert asked == []


def test_the_form_refuses_them_too():
    with pytest.raises(ValueError, match="reads plan from a file"):
        part("LinearAdaptive(secrets)", Guidance, RULES, None, "guidance")


def test_what_the_menus_say_stays_allowed():
    for menu, kind in ((SAMPLERS, Sampler), (GRIDS, Grid), (RULES, Guidance)):
        for said in menu.values():
            plain_tree(said, kind, "x")
    assert part("HeavyBall(base=DPMSolverPP(2), beta=0.8)", Sampler, {}, None, "sampler") == HeavyBall(
        DPMSolverPP(2), 0.8
    )
    assert part("Interval(CFG(2.5e0), -1.5, 1., log_snr)", Guidance, {}, None, "guidance") == Interval(
        CFG(2.5), -1.5, 1, "log_snr"
    )

    for said in ("DDIM(eta=.5)", "X(1.)", "X(1.e3, 2.E-4)"):
        check_said(said, "x")


@pytest.mark.parametrize("sign", ["a", "_", "a ", "1", "a."])
def test_long_words_are_looked_through_at_once(sign):
    """Whose every sign began a search of its own once: 3.4 s for 10,000 of them."""
    began = time.process_time()
    with contextlib.suppress(ValueError):
        check_said(sign * 50_000, "sampler")
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Sampler, "PredictorCorrector(corrector=Langevin(count=COUNT))"), (Sampler, "AdaptiveStep(limit=COUNT)"),
        (Filter, "RenoiseProbe(k=COUNT)"), (Guidance, "Interval(rule=Adaptive(rule=CFG(3), least=COUNT))"),
    ],
    ids=["corrector", "limit", "probes", "nested"],
)  # fmt: skip
def test_no_part_asks_a_network_without_end(kind, said):
    """A step of a billion evaluations would hold the turn of everybody, and Stop ends work between steps only."""
    part(said.replace("COUNT", "2"), kind, {}, None, "it")
    for count in ("1000000000", "9" * 60, "1_000_000", "0xfffffff"):
        with pytest.raises(ValueError, match=r"allowed here: at most|allowed:|whole number"):
            part(said.replace("COUNT", count), kind, {}, None, "it")
