"""`sfumato bench evaluate`: that all sides do the same work, and what is written of it; its times are for nobody here."""

import json

import pytest
import torch

from sfumato.tools.bench import evaluate
from sfumato.tools.bench.evaluate import EVALUATING, ROWS, distances, products, runs_of, share_of
from sfumato.tools.bench.evaluate_peers import DISTANCES, Given, accumulating
from sfumato.tools.bench.peers import installed
from sfumato.tools.bench.sheet import Cell, read
from sfumato.tools.bench.stand_in import import_peer
from sfumato.tools.cli import main

THERE = [peer for peer in DISTANCES if installed(peer)]


def test_the_quick_version_runs_every_row(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        evaluate, "_share", lambda name, d, rounds, pictures, sheet: sheet.add(name, {"share": Cell(0.01, unit="%")})
    )  # the network takes its time
    assert main(["bench", "evaluate", "--quick", "--out", str(tmp_path)]) == 0
    rows = read(tmp_path / "evaluate-quick.json")
    sides = [f"frechet-64, {side}" for side in ("ours", *THERE)]
    assert [row for row in rows if row.startswith("frechet-64")] == sides
    assert {row.partition(",")[0] for row in rows} == set(ROWS)
    for row, cells in rows.items():
        name, _, side = row.partition(", ")
        if name.startswith("share"):
            continue
        assert cells["CPU seconds"].value > 0
        assert ("off ours" in cells) != name.startswith("accumulate")
        assert name.startswith("accumulate") or cells["off ours"].value < (1e-6 if "singular" in name else 1e-12)
        assert side != "ours" or cells["times ours"].value == 1
    # of a gram matrix we make a half, and of a width that fits into one block all of it: 2 x 1024 x 24 x 24
    assert rows["accumulate-2048, torchmetrics"]["GFLOP"] == Cell(2 * 1024 * 24**2 / 1e9, unit="", exact=True)
    assert "times ours [x]" in capsys.readouterr().out
    for goal in EVALUATING.goals:
        if goal.row.partition(", ")[2] in ("", *THERE):
            assert goal.column in rows[goal.row]


def test_a_wide_gram_matrix_takes_little_more_than_half_of_the_products():
    counts = {side: products(run) for side, run in runs_of("accumulate-2048", 512, THERE).items()}
    assert counts["torchmetrics"] == 2 * 1024 * 512**2 / 1e9
    assert 0.5 < counts["ours"] / counts["torchmetrics"] < 0.8


@pytest.mark.parametrize("name", ["frechet-64", "singular-64"])
def test_all_sides_answer_alike(name):
    values = {side: run() for side, run in distances(name, 64, tuple(THERE)).items()}
    for peer in THERE:
        assert values[peer] == pytest.approx(values["ours"], rel=1e-6)
    if name == "singular-64":
        assert values["ours, of covariances alone"] == pytest.approx(values["ours"], rel=1e-12)


def test_both_sides_accumulate_the_same(monkeypatch):
    fid, made = import_peer("torchmetrics.image.fid"), []
    kept = fid.FrechetInceptionDistance
    monkeypatch.setattr(fid, "FrechetInceptionDistance", lambda extractor: made.append(kept(extractor)) or made[-1])
    x = torch.randn(1024, 8, generator=torch.Generator().manual_seed(1))
    for run in accumulating(8, x.split(64)).values():
        run()
    assert isinstance(made[0].inception, Given)
    assert int(made[0].fake_features_num_samples) == 1024
    torch.testing.assert_close(made[0].fake_features_cov_sum, x.double().T @ x.double())


def test_the_share_is_that_of_a_picture():
    found = share_of({"statistics": [2.048, 1.024, 4.096], "look": [0.8, 0.8, 0.8]}, pictures=8)
    assert found["share"] == Cell(pytest.approx(0.02), pytest.approx(0.015), pytest.approx(0.03), "%")
    assert found["CPU seconds of a look"].value == pytest.approx(0.1)


def test_absent_peers_and_mistakes(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(evaluate, "installed", lambda name: name == "torchmetrics")
    assert main(["bench", "evaluate", "--quick", "--only", "frechet-64", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "evaluate-quick.json").read_text())
    assert found["absent"] == {"torch-fidelity": "not installed", "scipy": "not installed"}
    assert list(found["rows"]) == ["frechet-64, ours", "frechet-64, torchmetrics"]
    assert main(["bench", "evaluate", "--against", "diffusers"]) == 2
    assert "against names 'diffusers'; allowed: torchmetrics, torch-fidelity, scipy" in capsys.readouterr().err
    assert main(["bench", "evaluate", "--only", "frechet-63"]) == 2
    assert "only is 'frechet-63'; allowed: frechet-64" in capsys.readouterr().err
    assert main(["bench", "filters", "--against", "scipy"]) == 2
    assert "allowed: nothing, for filters; leave it out" in capsys.readouterr().err
