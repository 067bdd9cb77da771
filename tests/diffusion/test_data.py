"""Data sources."""

import pytest
import torch

from sfumato.diffusion import Digits


def test_digits_are_the_real_scans():
    data = Digits()
    assert len(data) == 1797
    batch = data.batch(torch.tensor([0, 1796, 5]))
    assert batch.x.shape == (3, 1, 8, 8)
    assert batch.labels.tolist() == [0, 8, 5]
    whole = data.batch(torch.arange(1797)).x
    assert (float(whole.min()), float(whole.max())) == (-1.0, 1.0)
    assert len(Digits("even")) + len(Digits("odd")) == 1797
    assert Digits("even").fingerprint != Digits("odd").fingerprint == Digits("odd").fingerprint
    with pytest.raises(ValueError, match="'all', 'even', 'odd'"):
        Digits("some")
