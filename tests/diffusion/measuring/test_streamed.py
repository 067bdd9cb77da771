"""Statistics without keeping the features are those of all features."""

import pytest
import torch

from sfumato.diffusion.measuring import OfTensor, Pixels, as_bytes, moments
from sfumato.diffusion.measuring.streamed import streamed_moments


@pytest.fixture
def pictures():
    return OfTensor(torch.randint(0, 256, (41, 1, 3, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)))


def test_the_moments_of_all_features(pictures):
    wanted = moments(pictures.x.flatten(1).double() / 127.5 - 1)
    found = streamed_moments(pictures, Pixels((1, 3, 4)), batch=7)
    assert found.count == 41
    torch.testing.assert_close(found.mean, wanted.mean, rtol=0, atol=1e-7)  # features are float32
    torch.testing.assert_close(found.covariance, wanted.covariance, rtol=0, atol=1e-7)
    other = streamed_moments(pictures, Pixels((1, 3, 4)), batch=64)
    assert torch.equal(other.mean, found.mean)
    assert torch.equal(other.covariance, found.covariance)


def test_what_is_wrong_is_said(pictures):
    with pytest.raises(ValueError, match=r"Pixels\.shape"):
        streamed_moments(pictures, Pixels((1, 4, 4)))
    with pytest.raises(ValueError, match="2 or more"):
        streamed_moments(OfTensor(as_bytes(torch.zeros(1, 1, 3, 4))), Pixels((1, 3, 4)))
