"""Moments that stream: those of all features at once, however they were cut, over processes, and far from zero."""

import copy
import math

import pytest
import torch
import torch.distributed as dist
from children import ends
from torchmetrics.image.fid import FrechetInceptionDistance

from sfumato.diffusion.measuring.accumulate import FeatureMoments
from sfumato.diffusion.measuring.frechet import frechet, moments
from sfumato.diffusion.measuring.moments_file import load_moments, save_moments


def features(n=500, d=24, far=0.0):
    x = torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    return x @ torch.randn(d, d, dtype=torch.float64, generator=torch.Generator().manual_seed(d)) + far


def gathered(x, *sizes, rows=128):
    found = FeatureMoments(x.shape[1], rows)
    for part in x.split(list(sizes) or len(x)):
        found.update(part)
    return found


def assert_near(a, b, digits=1e-12):
    assert a.count == b.count
    size = b.covariance.diagonal().sqrt()
    torch.testing.assert_close(a.mean, b.mean, rtol=digits, atol=digits * float(size.max()))
    torch.testing.assert_close(
        a.covariance / size / size[:, None], b.covariance / size / size[:, None], rtol=0, atol=digits
    )


@pytest.mark.parametrize(
    ("n", "d", "rows"), [(500, 24, 128), (500, 24, 1), (500, 24, 1024), (2, 3, 1024), (300, 1, 100), (64, 200, 30)]
)
def test_they_are_the_moments_of_all(n, d, rows):
    x = features(n, d)
    made = gathered(x, rows=rows).compute()
    assert made.mean.dtype == made.covariance.dtype == torch.float64
    assert made.mean.shape == (d,)
    assert_near(made, moments(x))


@pytest.mark.parametrize("sizes", [(500,), (1,) * 500, (127, 1, 128, 244), (0, 499, 1), (300, 200)])
def test_batches_change_no_bit(sizes):
    x = features()
    one, other = gathered(x, 64, 436).compute(), gathered(x, *sizes).compute()
    assert torch.equal(one.mean, other.mean)
    assert torch.equal(one.covariance, other.covariance)


@pytest.mark.parametrize("far", [1e3, 1e8])
def test_far_from_zero_no_digit_is_lost(far):
    """Moving by whole numbers rounds x itself by far * 1e-16; sums of squares around zero would lose far^2 * 1e-16."""
    x = features(far=far)
    near = moments(x - far)  # exact: x is a neighbour of far
    made = gathered(x, *(10,) * 50, rows=64).compute()
    size = float(near.covariance.diagonal().max())
    assert float((made.covariance - near.covariance).abs().max()) < size * (1e-12 + 1e-15 * far)
    plain = (x.T @ x - len(x) * torch.outer(x.mean(0), x.mean(0))) / (len(x) - 1)
    assert far < 1e8 or float((plain - near.covariance).abs().max()) > 0.1 * size


def test_merging_is_adding():
    x = features()
    a, b, none = gathered(x[:130]), gathered(x[130:]), FeatureMoments(24)
    before = b.compute()
    a.merge_state(none)
    none.merge_state(b)
    a.merge_state(none.metric_state)
    assert_near(a.compute(), moments(x))
    assert torch.equal(b.compute().covariance, before.covariance)  # the other stays as it is
    a.update(x[:10])
    assert_near(a.compute(), moments(torch.cat([x, x[:10]])))
    with pytest.raises(ValueError, match="the other's features have width 3; allowed: 24"):
        a.merge_state(FeatureMoments(3))
    with pytest.raises(ValueError, match="the other's features have no width"):
        a.merge_state({"sum": x})


def test_asking_changes_nothing_and_reset_forgets():
    x = features()
    a = gathered(x[:200])
    a.compute()
    a(x[200:])  # as torchmetrics' collections call it
    assert_near(a.compute(), moments(x))
    twin = copy.deepcopy(a)
    twin.update(x[:7])
    assert_near(twin.compute(), moments(torch.cat([x, x[:7]])))
    assert_near(a.compute(), moments(x))
    a.update(x[:3])
    a.reset()
    with pytest.raises(ValueError, match="0 feature vectors were added; allowed: 2 or more"):
        a.compute()
    a.update(x[:50])
    assert_near(a.compute(), moments(x[:50]))


def test_what_is_handed_in_is_copied():
    x = features(40)
    a, kept = FeatureMoments(24), x.clone()
    a.update(x)
    x.zero_()
    assert_near(a.compute(), moments(kept))


def test_single_precision_is_summed_in_double():
    x = features(far=5.0).float()
    assert_near(gathered(x, 250, 250).compute(), moments(x.double()))
    a = gathered(x).half()
    assert a.state.dtype == torch.float64
    with pytest.raises(ValueError, match=r"dst_type is torch\.float32; allowed: torch\.float64"):
        a.set_dtype(torch.float32)


def test_refusals():
    with pytest.raises(ValueError, match="num_features is 0"):
        FeatureMoments(0)
    a = FeatureMoments(3)
    for wrong in (torch.zeros(3), torch.zeros(2, 4)):
        with pytest.raises(ValueError, match=r"features have shape .* allowed: \(B, 3\)"):
            a.update(wrong)
    with pytest.raises(ValueError, match="nan or infinite"):
        a.update(torch.tensor([[0.0, math.nan, 1.0]]))
    a.update(torch.zeros(1, 3))
    with pytest.raises(ValueError, match="1 feature vectors were added"):
        a.compute()


def test_two_processes_hold_the_moments_of_all(tmp_path):
    """Unequal parts, one of them empty at first; asking leaves each its own."""
    x, y = features(far=100.0), features(300, far=-7.0)

    def work(rank):
        dist.init_process_group("gloo")
        a = FeatureMoments(24, rows=64)
        a.update((x[:170], x[170:])[rank])
        save_moments(tmp_path / f"x{rank}.npz", a.compute(), {})
        own = a.state.clone()
        assert int(own[0, 0]) == (170, 330)[rank]
        late = FeatureMoments(24)
        try:  # nobody has any: said in both, and neither is left with the other's
            late.compute()
        except ValueError:
            assert not late._is_synced
        else:
            raise AssertionError
        if rank:
            late.update(y)
        save_moments(tmp_path / f"y{rank}.npz", late.compute(), {})
        dist.destroy_process_group()

    codes, said, _ = ends(work, tmp_path / "log", 60.0)
    assert codes == [0, 0], said
    for name, whole in (("x", x), ("y", y)):
        zero, one = (load_moments(tmp_path / f"{name}{rank}.npz") for rank in (0, 1))
        assert torch.equal(zero.covariance, one.covariance)
        assert_near(zero, moments(whole))
        assert frechet(zero, moments(whole)) < 1e-11 * float(zero.covariance.trace())


class Given(torch.nn.Module):
    """Pictures that are their features."""

    num_features = 24

    def forward(self, x):
        return x


def test_torchmetrics_finds_the_same_distance():
    theirs, x, y = FrechetInceptionDistance(Given()), features(), 1.5 * features(300, far=0.2)
    for part, real in ((x[:200], True), (y, False), (x[200:], True)):
        theirs.update(part, real=real)
    ours = frechet(gathered(x, 123, 377).compute(), gathered(y, 1, 299).compute())
    assert ours == pytest.approx(float(theirs.compute()), rel=1e-9)
