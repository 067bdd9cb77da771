"""Claims measured again and held against what is recorded, which of them are quick, and the page of all."""

import dataclasses
import html
import json

import pytest

from sfumato.tools.claims import CLAIMS
from sfumato.tools.claims import main as command
from sfumato.tools.claims.again import quick_ones, turned
from sfumato.tools.claims.cells import raw_of
from sfumato.tools.claims.claim import FAILED, HELD, UNDECIDED, Finding, plus_minus, verdict
from sfumato.tools.claims.main import recorded
from sfumato.tools.cli import main


def stand_in(name, effects, measured):
    """A claim in a second: the smallest recipe, and numbers that were made up, one per seed."""

    def measure(run, recipe):
        measured.append((name, recipe.seed))
        return {"effect": effects[recipe.seed]}

    def judge(cells):
        values = [cells["only"][seed]["effect"] for seed in sorted(cells["only"])]
        return Finding(values, plus_minus(values), verdict(values))

    real = CLAIMS["min-snr"]
    return dataclasses.replace(
        real, name=name, measurement=name, variants=("only",), quick_variants=(), keeps_runs=False, judge=judge, measure=measure,
        sheet=None, recipe=lambda variant, seed, quick: dataclasses.replace(real.recipe("constant-eps", seed, True), steps=1),
    )  # fmt: skip


def result(claim, values, seconds=1.0):
    """As it would be recorded, with these numbers."""
    cells = [
        {"variant": "only", "seed": k, "seconds": seconds, "cpu_seconds": seconds, "raw": {"effect": v}}
        for k, v in enumerate(values)
    ]
    common = {"seeds": [0, 1, 2], "minutes": 0.1, "version": "0", "torch": "0", "cells": cells}
    return {**dataclasses.asdict(claim.judge(raw_of(cells))), **common}


@pytest.fixture(name="two")
def _two(monkeypatch):
    """Claims a and b, what was measured of them, and what is recorded."""
    measured = []
    claims = {"a": stand_in("a", [1.0, 1.1, 0.9], measured), "b": stand_in("b", [0.1, 0.5, 1.0], measured)}
    known = {"a": result(claims["a"], [1.0, 1.1, 0.9]), "b": result(claims["b"], [2.0, 2.1, 1.9])}
    monkeypatch.setattr(command, "CLAIMS", claims)
    monkeypatch.setattr(command, "recorded", known.get)
    monkeypatch.setattr("sfumato.tools.claims.cells.train", lambda recipe, run, resume: run.mkdir(exist_ok=True))
    return measured, claims, known


def test_claims_are_measured_again_and_held_against_what_is_recorded(two, tmp_path, capsys):
    measured, claims, known = two
    argv = ["claims", "--again", "--out", str(tmp_path)]
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert "a: the same verdict" in out
    assert f"b: {HELD} before, {UNDECIDED} now: no contradiction" in out
    assert "2 measured again, 0 turned" in out
    assert measured == [(name, seed) for name in "ab" for seed in range(3)]
    assert main(argv) == 0  # from nothing, not from what the first call left
    assert len(measured) == 12
    rows = json.loads((tmp_path / "again.json").read_text())
    assert {"code", "machine", "seeds", "command"} <= rows.keys()
    assert rows["machine"]["cpu"]
    assert [row["turned"] for row in rows["claims"]] == [False, False]
    whole = json.loads((tmp_path / "a.json").read_text())
    assert whole["quick"] is False
    assert whole["recipes"]["only"]["steps"] == 1
    assert {"code", "machine", "seeds", "version", "torch", "command"} <= whole.keys()
    capsys.readouterr()
    known["a"] = result(claims["a"], [-1.0, -1.1, -0.9])
    assert known["a"]["verdict"] == FAILED
    assert main(argv) == 1
    out = capsys.readouterr().out
    assert "a: turned into its opposite" in out
    assert "1 turned into the opposite of what is recorded: a" in out
    assert main(["claims", "b", "--again", "--out", str(tmp_path)]) == 0  # who is named is measured, and no other
    assert measured[-3:] == [("b", seed) for seed in range(3)]
    assert len(measured) == 21


def test_an_interrupted_call_goes_on(two, tmp_path, monkeypatch, capsys):
    measured, claims, _ = two
    whole = claims["b"].measure

    def stop(run, recipe):
        raise KeyboardInterrupt

    claims["b"] = dataclasses.replace(claims["b"], measure=stop)
    argv = ["claims", "a,b", "--again", "--out", str(tmp_path)]
    assert main(argv) == 130
    assert "go on with the same command" in capsys.readouterr().err
    claims["b"] = dataclasses.replace(claims["b"], measure=whole)
    assert main(argv) == 0
    assert measured == [(name, seed) for name in "ab" for seed in range(3)]
    assert not (tmp_path / "again").exists()


def test_only_the_opposite_is_a_contradiction():
    assert turned(HELD, FAILED)
    assert turned(FAILED, HELD)
    assert not any(turned(a, UNDECIDED) or turned(UNDECIDED, a) or turned(a, a) for a in (HELD, FAILED))


def test_the_quick_ones_fit_together_and_a_shared_measurement_counts_once():
    claims = {name: stand_in(name, [1.0] * 3, []) for name in "abcd"}
    claims["d"] = dataclasses.replace(claims["d"], measurement="c")
    minutes = {"a": 5.0, "b": 1.0, "c": 2.0, "d": 2.0}
    known = {name: result(claim, [1.0, 1.1, 0.9], 20 * minutes[name]) for name, claim in claims.items()}
    assert quick_ones(claims, known, 3.0) == ["b", "c", "d"]
    assert quick_ones(claims, known, 2.9) == ["b"]
    assert quick_ones(claims, known, 8.0) == ["a", "b", "c", "d"]
    assert quick_ones(claims, {**known, "b": None}, 3.0) == ["c", "d"]


def test_what_make_claims_measures_is_told_by_what_is_recorded():
    names = quick_ones(CLAIMS, {name: recorded(name) for name in CLAIMS}, 9.0)
    assert len(names) >= 3


def test_the_page_holds_every_claim_with_its_numbers(tmp_path, capsys, monkeypatch):
    drawn = []

    def picture(_, title, path):
        drawn.append(title)
        path.write_bytes(b"\x89PNG")

    monkeypatch.setattr("sfumato.tools.plots.draw_panels", picture)
    monkeypatch.setattr("sfumato.tools.plots.draw_sheet", lambda sheet, path: path.write_bytes(b"\x89PNG"))
    assert main(["claims", "--html", str(tmp_path / "claims.html")]) == 0
    assert "report: " in capsys.readouterr().out
    page = (tmp_path / "claims.html").read_text()
    assert len(drawn) == len(CLAIMS)
    for name, claim in CLAIMS.items():
        known = recorded(name)
        assert known is not None
        for text in (claim.command, claim.promise, known["ours"], f"{name} ({claim.paper}"):
            assert html.escape(text) in page
    order = [page.index(f"<h2>{kind[0].upper()}{kind[1:]}: ") for kind in (HELD, FAILED, UNDECIDED)]
    assert order == sorted(order)


def test_one_claim_is_drawn_from_its_recorded_numbers(two, tmp_path, monkeypatch):
    _, claims, known = two
    panel = {"title": "t", "x": "x", "y": "y", "series": [{"x": [0, 1], "y": [0, 1], "name": "n"}]}
    for name in claims:
        claims[name] = dataclasses.replace(claims[name], panels=lambda cells: [panel] * len(cells["only"]))
    known["b"] = None
    assert main(["claims", "--html", str(tmp_path / "claims.html")]) == 0
    page = (tmp_path / "claims.html").read_text()
    assert page.count("data:image/png") == 1
    assert "Not measured: 1" in page


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["min-srn", "--again"], "did you mean min-snr?"),
        (["min-snr,debiassed", "--again"], "did you mean debiased?"),
        (["--again", "--quick"], "again is given with quick"),
        (["--again", "--minutes", "0.001"], "no claim was measured in so few"),
        (["min-snr", "--html", "x.html"], "leave name and again out"),
        (["min-snr,debiased"], "name is 'min-snr,debiased'"),
    ],
)
def test_mistakes_of_again(argv, said, capsys):
    assert main(["claims", *argv]) == 2
    assert said in capsys.readouterr().err
