"""`sfumato bench gpu`: the same lines run here on a tiny network, and are refused as a measurement without a GPU."""

import json

import pytest
import torch

from sfumato.tools.cli import main


def test_the_quick_version_measures_what_must_hold(tmp_path, capsys):
    assert main(["bench", "gpu", "--quick", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "gpu-quick.json").read_text())
    assert found["resume"] == {"resumed": 0.0, "repeated": 0.0, "exact": True}
    assert found["noise"] == {"gaussian": True, "uniform": True, "order": True}
    assert set(found["syncs"].values()) == {True}
    probed = found["out_of_memory"]
    assert (probed["batch"], probed["micro_batch"], probed["found"]) == (64, 8, True)
    speed = found["training"]["DiT-tiny/2"]
    assert speed["images_per_second"] == pytest.approx(speed["batch"] / speed["seconds_per_step"])
    assert 0 < speed["predicted_mib"] < speed["memory_mib"]
    said = capsys.readouterr().out
    assert "DiT-tiny/2" in said
    assert "NO" not in said


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_it_is_refused_without_a_gpu(capsys):
    assert main(["bench", "gpu"]) == 2
    assert "sees no GPU; run it on one, or add --quick" in capsys.readouterr().err
