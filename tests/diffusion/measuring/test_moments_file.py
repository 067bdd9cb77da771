"""Files of moments: whole, read back to the bit, by pytorch-fid, too, and refused where they are something else."""

import pickle
import zipfile

import numpy as np
import pytest
import torch

from sfumato.diffusion.measuring import moments_file
from sfumato.diffusion.measuring.frechet import moments
from sfumato.diffusion.measuring.moments_file import load_about, load_moments, save_moments


@pytest.fixture
def made():
    return moments(torch.randn(40, 6, generator=torch.Generator().manual_seed(1)))


def test_what_is_written_is_read(tmp_path, made):
    file, about = tmp_path / "new" / "digits.npz", {"extractor": "Pixels", "n": 40, "resize": ["none", None]}
    save_moments(file, made, about)
    again = load_moments(file)
    assert torch.equal(again.mean, made.mean)
    assert torch.equal(again.covariance, made.covariance)
    assert (again.count, load_about(file)) == (40, about)
    assert [p.name for p in file.parent.iterdir()] == ["digits.npz"]


def test_pytorch_fid_reads_it_and_we_read_its(tmp_path, made):
    """Its lines: `with np.load(path) as f: m, s = f["mu"][:], f["sigma"][:]`, and `np.savez_compressed(path, mu=m1, sigma=s1)`;
    the fid.py of EDM has `np.savez(ref, mu=mu, sigma=sigma)`."""
    save_moments(tmp_path / "ours.npz", made, {})
    with np.load(tmp_path / "ours.npz") as f:
        m, s = f["mu"][:], f["sigma"][:]
    assert m.dtype == s.dtype == np.float64
    np.testing.assert_array_equal(m, made.mean.numpy())
    np.testing.assert_array_equal(s, made.covariance.numpy())
    for write in (np.savez_compressed, np.savez):
        write(tmp_path / "theirs.npz", mu=m, sigma=s)
        theirs = load_moments(tmp_path / "theirs.npz")
        assert torch.equal(theirs.covariance, made.covariance)
        assert (theirs.count, load_about(tmp_path / "theirs.npz")) == (0, {})  # nobody wrote down of how many


def test_a_dead_feature_may_have_a_variance_of_minus_rounding(tmp_path):
    # sums of squares around zero, as others take them, leave it
    np.savez(tmp_path / "a.npz", mu=np.ones(2), sigma=np.array([[1.0, 1e-18], [-1e-18, -1e-17]]))
    assert load_moments(tmp_path / "a.npz").mean.tolist() == [1.0, 1.0]


def test_a_write_that_fails_leaves_what_was_there(tmp_path, made, monkeypatch):
    file = tmp_path / "a.npz"
    save_moments(file, made, {"old": 1})

    def fail(handle, **arrays):
        handle.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(moments_file.np, "savez", fail)
    with pytest.raises(OSError, match="no space"):
        save_moments(file, made, {"new": 1})
    assert load_about(file) == {"old": 1}
    assert list(tmp_path.iterdir()) == [file]


def test_what_can_not_be_written_is_refused(tmp_path, made):
    with pytest.raises(ValueError, match=r"allowed: a name that ends in \.npz"):
        save_moments(tmp_path / "a.npy", made, {})
    for about in ({"x": torch.zeros(1)}, {"x": float("nan")}):
        with pytest.raises(ValueError, match="about holds what JSON can't"):
            save_moments(tmp_path / "a.npz", made, about)
    assert not list(tmp_path.iterdir())


def test_every_damage_is_refused(tmp_path, made):
    file = tmp_path / "a.npz"
    save_moments(file, made, {"n": 40})
    whole = file.read_bytes()
    for length in range(0, len(whole), 37):
        file.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="make the statistics again"):
            load_moments(file)
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as empty:
        empty.writestr("mu.npy", b"")
    with pytest.raises(ValueError, match="make the statistics again"):
        load_moments(tmp_path / "b.npz")
    place = whole.index(made.covariance.numpy().tobytes()) + 20
    file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])  # one bit of one number
    with pytest.raises(ValueError, match="damaged"):
        load_moments(file)


class Evil:
    def __reduce__(self):
        return print, ("run",)


def test_pickles_are_never_opened(tmp_path, capsys):
    (tmp_path / "cifar10-32x32.pkl").write_bytes(pickle.dumps({"fid": Evil()}))
    with pytest.raises(ValueError, match=r"is a pickle; allowed: \.npz with mu and sigma"):
        load_moments(tmp_path / "cifar10-32x32.pkl")
    (tmp_path / "named.npz").write_bytes(pickle.dumps({"mu": Evil()}))
    with pytest.raises(ValueError, match=r"is no \.npz file"):
        load_moments(tmp_path / "named.npz")
    np.savez(tmp_path / "objects.npz", mu=np.array([Evil()], dtype=object), sigma=np.eye(1))
    with pytest.raises(ValueError, match="damaged or holds objects"):
        load_moments(tmp_path / "objects.npz")
    assert capsys.readouterr().out == ""


EYE = np.eye(3)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mean": np.zeros(3), "cov": EYE}, "has no mu and no sigma, but mean, cov"),
        ({"mu": np.zeros(3)}, "has no sigma, but mu"),
        ({"mu": np.zeros(2), "sigma": EYE}, r"mu is \(2,\) and sigma \(3, 3\); allowed: \(d,\) and \(d, d\)"),
        ({"mu": np.zeros((1, 3)), "sigma": EYE}, r"mu is \(1, 3\)"),
        ({"mu": np.zeros(3), "sigma": EYE * np.nan}, "sigma holds numbers that are not finite"),
        ({"mu": np.zeros(3, dtype=complex), "sigma": EYE}, "mu is of complex128"),
        ({"mu": np.zeros(3), "sigma": EYE + np.eye(3, k=1)}, "sigma is no covariance"),
        ({"mu": np.zeros(3), "sigma": -EYE}, "sigma is no covariance"),
        ({"mu": np.zeros(2), "sigma": np.array([[1.0, 2.0], [2.0, 1.0]])}, "no correlation beyond 1"),
        ({"mu": np.zeros(3), "sigma": EYE, "count": np.array([1, 2])}, "allowed: one whole number"),
        ({"mu": np.zeros(3), "sigma": EYE, "count": np.int64(-1)}, "allowed: one whole number"),
    ],
)
def test_other_contents_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        load_moments(tmp_path / "a.npz")


def test_other_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="is no file"):
        load_moments(tmp_path / "none.npz")
    np.save(tmp_path / "a.npy", EYE)
    with pytest.raises(ValueError, match=r"is no \.npz file, or a damaged one"):
        load_moments(tmp_path / "a.npy")
    np.savez(tmp_path / "b.npz", mu=np.zeros(3), sigma=EYE, about=np.array("{no json"))
    with pytest.raises(ValueError, match="about is no JSON mapping"):
        load_about(tmp_path / "b.npz")
