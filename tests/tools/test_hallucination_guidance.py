"""Hallucinations by the scale of guidance: the rates of points whose truth is known, and the judge on made-up cells."""

import math

import pytest
import torch

from sfumato.tools.claims.claim import FAILED, HELD
from sfumato.tools.claims.hallucination_guidance import SAMPLERS, effect, rates
from sfumato.tools.claims.main import CLAIMS
from sfumato.tools.claims.modes import Modes
from sfumato.tools.claims.table import as_markdown

LAW = Modes("grid", 5000, classes=True)


def _drawn():
    batch = LAW.batch(torch.arange(5000))
    assert batch.labels is not None
    return batch.x.clone(), batch.labels


def test_exact_samples_are_all_where_they_should_be():
    found = rates(*_drawn(), LAW)
    assert (found["off"], found["missed"], found["right"]) == (0, 0, 1)
    assert found["spread"] == pytest.approx(1)


def test_known_shares_of_wrong_points():
    x, labels = _drawn()
    wrong = rates(x, (labels + 1) % 5, LAW)
    assert (wrong["off"], wrong["missed"], wrong["right"], wrong["spread"]) == (0, 1, 0, pytest.approx(0.2))
    x[labels == 2, 1] += 0.3535  # half-way to the next mode above, of the same class
    between = rates(x, labels, LAW)
    assert between["off"] == between["missed"] == pytest.approx(0.2)
    assert between["right"] == 1
    x[labels == 2] = math.nan
    lost = rates(x, labels, LAW)
    assert lost["off"] == lost["missed"] == pytest.approx(0.2)
    assert lost["right"] == pytest.approx(0.8)
    one = LAW.centres[labels * 5].float()[:, :, None, None]
    assert rates(one, labels, LAW)["spread"] == pytest.approx(0.2)


def _cell(cfg, interval):
    rows = {
        way: [{"scale": s, "off": v if s > 1 else 0.5, "missed": v if s > 1 else 0.5} for s in (1.0, 2.0, 4.0)]
        for way, v in (("CFG", cfg), ("interval", interval))
    }
    return {"count": 1000, **dict.fromkeys(SAMPLERS, rows)}


def test_the_effect_and_the_verdict():
    assert effect(_cell(0.199, 0.099), "DDPM", "off") == pytest.approx(math.log(2))
    assert effect(_cell(0.0, 0.0), "DDIM", "missed") == 0
    claim = CLAIMS["hallucination-guidance"]
    assert claim.judge({"grid": {s: _cell(0.2 + 0.01 * s, 0.1) for s in range(3)}}).verdict == HELD
    assert claim.judge({"grid": {s: _cell(0.1, 0.2 + 0.01 * s) for s in range(3)}}).verdict == FAILED


def test_a_claim_of_our_own_has_no_link():
    claim = CLAIMS["hallucination-guidance"]
    last = as_markdown({claim.name: claim}, {claim.name: None}).splitlines()[-1]
    assert last.startswith(f"| Sfumato | {claim.promise} | not published |  | not measured |")
