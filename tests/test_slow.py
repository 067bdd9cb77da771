"""Slow checks, `make test-slow`: the quickstart keeps its promise."""

import json

import pytest
import yaml

from sfumato.diffusion.images import read_settings
from sfumato.tools.cli import main

pytestmark = pytest.mark.slow


def test_quickstart_keeps_its_promise(tmp_path, capsys):
    """Frechet distance near that of two real halves, and guided classes right. The bounds leave room for other seeds."""
    folder = tmp_path / "quick"
    assert main(["quickstart", "--out", str(folder)]) == 0
    said = capsys.readouterr().out
    assert str(folder / "samples.png") in said
    assert said.count("  sfumato ") == 3
    results = json.loads((folder / "metrics.json").read_text())
    assert results["unguided"]["frechet"] < 1.5 * results["references"]["real_vs_real"]
    assert results["unguided"]["accuracy"] > 0.94
    assert results["guided"]["accuracy"] > 0.98
    assert results["training"]["cpu_seconds"] + results["sampling"]["cpu_seconds"] < 60
    assert yaml.safe_load((folder / "config.yaml").read_text())["steps"] == 800
    assert len(read_settings(folder / "samples.png")["pictures"]) == 100
    assert (folder / "loss.png").is_file()
    assert main(["quickstart", "--out", str(folder), "--help"]) == 0
