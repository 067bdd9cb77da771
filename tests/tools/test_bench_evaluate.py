"""`sfumato bench evaluate`: that all sides do the same work, and what is written of it; its times are for nobody here."""

import json

import pytest
import torch

from sfumato.tools.bench import evaluate
from sfumato.tools.bench.evaluate import ROWS, _accumulating, _distances, _Given, measure_evaluation
from sfumato.tools.cli import main


def test_the_quick_version_runs_every_row_that_takes_seconds(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        evaluate, "_share", lambda features, rounds, pictures, say: {"share": 0.0}
    )  # the network takes its time
    assert main(["bench", "evaluate", "--quick", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "evaluate-quick.json").read_text())
    assert list(found["rows"]) == [name for name in ROWS if name != "frechet-2048"]
    for name, row in found["rows"].items():
        sides = {"frechet": ["ours", "torchmetrics", "scipy"], "accumulate": ["ours", "torchmetrics"]}.get(
            name.split("-")[0]
        )
        assert sides is None or list(row) == sides
        for side, cells in row.items() if sides else ():
            assert cells["seconds"] > 0
            assert cells["least"] <= cells["ratio"] * 1.0001 <= cells["most"] * 1.0002
            assert side == "ours" or name.startswith("accumulate") or cells["off"] < 1e-12
    said = capsys.readouterr().out
    assert "frechet-512, 1 rounds" in said
    assert "times ours" in said


@pytest.mark.parametrize("name", ["frechet-64", "singular-64"])
def test_all_sides_answer_alike(name):
    values = {side: run() for side, run in _distances(name, 64, ("torchmetrics", "scipy")).items()}
    assert values["torchmetrics"] == pytest.approx(values["ours"], rel=1e-6)
    assert values["scipy"] == pytest.approx(values["ours"], rel=1e-6)
    if name == "singular-64":
        assert values["ours, of covariances alone"] == pytest.approx(values["ours"], rel=1e-12)


def test_both_sides_accumulate_the_same(monkeypatch):
    from torchmetrics.image import fid

    made = []
    kept = fid.FrechetInceptionDistance
    monkeypatch.setattr(fid, "FrechetInceptionDistance", lambda extractor: made.append(kept(extractor)) or made[-1])
    runs = _accumulating("accumulate", 8, ("torchmetrics",))
    for run in runs.values():
        run()
    assert isinstance(made[0].inception, _Given)
    assert int(made[0].fake_features_num_samples) == 1024
    x = torch.randn(1024, 8, generator=torch.Generator().manual_seed(1)).double()
    torch.testing.assert_close(made[0].fake_features_cov_sum, x.T @ x)


def test_the_share_is_that_of_a_picture(monkeypatch):
    monkeypatch.setattr(
        evaluate, "times", lambda runs, rounds, cuda: {"statistics": [2.048, 1.0, 9.0], "look": [0.8, 0.7, 0.9]}
    )
    found = measure_evaluation("share-2048", (), True, lambda line: None)["rows"]["share-2048"]
    assert found["statistics"] == pytest.approx(0.002)
    assert found["share"] == pytest.approx(0.002 / 0.8)


def test_absent_peers_and_mistakes(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(evaluate, "installed", lambda name: name != "scipy")
    assert main(["bench", "evaluate", "--quick", "--only", "frechet-64", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "evaluate-quick.json").read_text())
    assert (found["absent"], list(found["rows"]["frechet-64"])) == (["scipy"], ["ours", "torchmetrics"])
    assert main(["bench", "evaluate", "--against", "diffusers"]) == 2
    assert "against names 'diffusers'; allowed: torchmetrics, scipy" in capsys.readouterr().err
    assert main(["bench", "evaluate", "--only", "frechet-63"]) == 2
    assert "only is 'frechet-63'; allowed: frechet-64" in capsys.readouterr().err
    assert main(["bench", "filters", "--against", "scipy"]) == 2
    assert "allowed: nothing, for filters; leave it out" in capsys.readouterr().err
