"""Latents: equal to what diffusers computes, whole or not there, the same after a kill."""

import copy
import errno
import json
import os
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from sfumato.diffusion import Batch, Digits, Source, Split
from sfumato.diffusion.encode import encode
from sfumato.diffusion.latents import LatentArray
from sfumato.diffusion.npy_writer import NpyWriter
from sfumato.diffusion.vae import Vae
from sfumato.schedules.parts import build, describe

DIGITS = Digits()
PLAIN = {
    "in_channels": 1, "out_channels": 1, "block_out_channels": (4, 4), "layers_per_block": 1, "latent_channels": 2, "norm_num_groups": 2,
    "mid_block_add_attention": False, "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2,
}  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """One thread, and no waiting for a disk: it is processes that are killed here, not machines."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    yield
    torch.set_num_threads(before)


def saved(folder, kind="AutoencoderKL", **config):
    """A small VAE with random weights, as diffusers saves one."""
    import diffusers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = getattr(diffusers, kind)(**(config or PLAIN)).eval()
    module.save_pretrained(folder)
    return module


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vaes") / "tiny-kl"
    return folder, saved(folder, **PLAIN, scaling_factor=0.5)


@dataclass(frozen=True)
class Few:
    """The first digits; `stop` is called with the number of calls so far."""

    count: int = 22
    stop: object = None

    def __len__(self):
        return self.count

    shape = (1, 8, 8)
    num_classes = 10
    fingerprint = "few"

    def batch(self, index: torch.Tensor) -> Batch:
        if self.stop is not None:
            self.stop(index)
        return DIGITS.batch(index)


def contents(folder):
    return {p.name: p.read_bytes() for p in Path(folder).iterdir()}


def test_latents_are_those_of_diffusers(plain, tmp_path):
    folder, module = plain
    data = encode(Few(), Vae(folder), tmp_path / "latents", batch=22, dtype="float32")
    assert isinstance(data, Source)
    batch = data.batch(torch.arange(22))
    x, labels, _ = DIGITS.batch(torch.arange(22))
    with torch.no_grad():
        posterior = module.encode(x).latent_dist
    torch.testing.assert_close(batch.x, posterior.mean * 0.5, atol=1e-7, rtol=0)
    torch.testing.assert_close(batch.spread, posterior.std * 0.5, atol=1e-6, rtol=1e-5)
    assert torch.equal(batch.labels, labels)
    assert (len(data), data.shape, data.num_classes) == (22, (2, 4, 4), 10)
    index = torch.tensor([21, 3, 3])
    assert torch.equal(data.batch(index).x, batch.x[index])
    assert torch.equal(data.batch(index).spread, batch.spread[index])
    mean_only = LatentArray(data.folder, sample=False)
    assert mean_only.batch(index).spread is None
    assert mean_only.fingerprint != data.fingerprint
    assert build(describe(data)) == data == copy.deepcopy(data)
    assert Split(data, part="held_out").batch(torch.tensor([0])).spread.shape == (1, 2, 4, 4)
    # float16 is that, rounded
    half = encode(Few(), Vae(folder), tmp_path / "half", batch=22).batch(index)
    torch.testing.assert_close(half.x, batch.x[index], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(half.spread, batch.spread[index], atol=1e-3, rtol=5e-3)
    assert torch.equal(half.x, (posterior.mean[index].half().float()) * 0.5)


def test_what_is_written_beside_the_latents(plain, tmp_path):
    data = encode(Few(), Vae(plain[0]), tmp_path / "latents", dtype="float32")
    batch, about = data.batch(torch.arange(22)), data.about
    assert {p.name for p in (tmp_path / "latents").iterdir()} == {
        "mean.npy",
        "log_variance.npy",
        "labels.npy",
        "latents.json",
    }
    assert not list(tmp_path.glob("*.part"))
    x = batch.x.double()
    torch.testing.assert_close(
        torch.tensor(about["channel_mean"], dtype=torch.float64), x.mean((0, 2, 3)), atol=1e-6, rtol=0
    )
    std = (x.var((0, 2, 3), correction=0) + batch.spread.double().square().mean((0, 2, 3))).sqrt()
    torch.testing.assert_close(torch.tensor(about["channel_std"], dtype=torch.float64), std, atol=1e-6, rtol=0)
    assert (about["data"], about["number"], about["vae"]["folder"], about["vae"]["class"]) == (
        "few",
        22,
        "tiny-kl",
        "AutoencoderKL",
    )
    assert (about["shift"], about["scaling"]) == ([0.0, 0.0], [0.5, 0.5])
    # the hash of the weights is that of the weights
    other = tmp_path / "other"
    shutil.copytree(plain[0], other)
    assert Vae(other).describe()["weights"] == about["vae"]["weights"]
    (weights,) = other.glob("*.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert Vae(other).describe()["weights"] != about["vae"]["weights"]
    assert Vae(other).describe()["config"] == about["vae"]["config"]


@pytest.mark.parametrize(
    ("config", "shift", "scaling"),
    [
        ({"shift_factor": 0.25, "scaling_factor": 2.0}, [0.25, 0.25], [2.0, 2.0]),
        ({"latents_mean": [0.5, -1.0], "latents_std": [4.0, 2.0], "scaling_factor": 2.0}, [0.5, -1.0], [0.5, 1.0]),
    ],
)
def test_shift_and_scaling_are_the_configs_and_decode_undoes_them(tmp_path, config, shift, scaling):
    module = saved(tmp_path / "pipe" / "vae", **PLAIN, **config)
    vae = Vae(tmp_path / "pipe")  # a pipeline's folder
    assert vae.describe()["folder"] == "pipe/vae"
    data = encode(Few(4), vae, tmp_path / "latents", dtype="float32")
    assert (data.about["shift"], data.about["scaling"]) == (shift, scaling)
    x = DIGITS.batch(torch.arange(4)).x
    with torch.no_grad():
        mean = module.encode(x).latent_dist.mean
        wanted = module.decode(mean).sample.clamp(-1, 1)
    by_channel = [(mean[:, c] - shift[c]) * scaling[c] for c in range(2)]
    torch.testing.assert_close(data.batch(torch.arange(4)).x, torch.stack(by_channel, 1), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(vae.decode(data.batch(torch.arange(4)).x), wanted, atol=1e-5, rtol=1e-5)


def test_a_vae_of_videos_takes_pictures_and_videos(tmp_path):
    numbers = {"latents_mean": [0.1, 0.2], "latents_std": [2.0, 4.0]}
    config = {
        "base_dim": 4,
        "z_dim": 2,
        "dim_mult": [1, 1],
        "num_res_blocks": 1,
        "temperal_downsample": [False],
        "in_channels": 1,
    }
    module = saved(tmp_path / "wan", "AutoencoderKLWan", **config, out_channels=1, attn_scales=[], **numbers)
    vae = Vae(tmp_path / "wan")
    x = DIGITS.batch(torch.arange(2)).x
    with torch.no_grad():
        wanted = module.encode(x[:, :, None]).latent_dist
    found = vae.encode(x)
    assert found.mean.shape == (2, 2, 4, 4)
    torch.testing.assert_close(found.mean, wanted.mean[:, :, 0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.log_variance, wanted.logvar[:, :, 0], atol=1e-5, rtol=1e-5)
    assert torch.equal(vae.encode(x[:, :, None]).mean[:, :, 0], found.mean)
    scaled = torch.stack([(found.mean[:, c] - m) / s for c, (m, s) in enumerate(((0.1, 2.0), (0.2, 4.0)))], 1)
    with torch.no_grad():
        torch.testing.assert_close(
            vae.decode(scaled), module.decode(wanted.mean).sample[:, :, 0].clamp(-1, 1), atol=1e-5, rtol=1e-5
        )
    assert encode(Few(3), vae, tmp_path / "latents").shape == (2, 4, 4)


def test_a_vae_without_a_distribution_has_no_spread(tmp_path):
    config = {
        "in_channels": 1,
        "out_channels": 1,
        "encoder_block_out_channels": (4, 4),
        "decoder_block_out_channels": (4, 4),
    }
    module = saved(
        tmp_path / "taesd",
        "AutoencoderTiny",
        **config,
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
        latent_channels=2,
    )
    data = encode(Few(3), Vae(tmp_path / "taesd"), tmp_path / "latents", dtype="float32")
    batch = data.batch(torch.arange(3))
    with torch.no_grad():
        torch.testing.assert_close(
            batch.x, module.encode(DIGITS.batch(torch.arange(3)).x).latents, atol=1e-6, rtol=1e-6
        )
    assert batch.spread is None
    assert not (tmp_path / "latents" / "log_variance.npy").exists()


def test_mirrored_pictures_follow_the_others(plain, tmp_path):
    vae = Vae(plain[0])
    data = encode(Few(10), vae, tmp_path / "latents", batch=4, mirror=True, dtype="float32")
    assert (len(data), data.about["mirrored"]) == (20, True)
    x, labels, _ = DIGITS.batch(torch.arange(10))
    found = data.batch(torch.arange(20))
    torch.testing.assert_close(found.x[:10], vae.encode(x).mean * 0.5, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found.x[10:], vae.encode(x.flip(3)).mean * 0.5, atol=1e-6, rtol=1e-5)
    assert torch.equal(found.labels, torch.cat([labels, labels]))


def after_kill(call):
    """Run `call` in a child that may kill itself; the signal that ended it, 0 for none."""
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        try:
            call()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.WTERMSIG(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forking where there are threads; the child has one
def test_a_kill_at_any_moment_leaves_what_the_next_call_completes(plain, tmp_path, monkeypatch):
    """SIGKILL before and after each write, sync and rename; then the same bytes as of a call that ran through, or a finished folder."""
    import sfumato.diffusion.npy_writer as writer

    vae = Vae(plain[0])
    whole = contents(encode(Few(), vae, tmp_path / "whole", batch=5).folder)
    monkeypatch.setattr(
        sys.modules["sfumato.diffusion.encode"], "_PAUSE", -1.0
    )  # what is done is written down after each batch
    killed = resumed = 0
    for moment in range(0, 200, 7):
        out = tmp_path / f"out-{moment}"
        left = [moment]

        def dying(do, left=left):
            def call(*args):
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1
                result = do(*args)
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1
                return result

            return call

        def run(out=out, dying=dying):
            for name in ("put", "sync"):
                setattr(NpyWriter, name, dying(getattr(NpyWriter, name)))
            writer.os.replace = dying(os.replace)
            encode(Few(), vae, out, batch=5)

        ended = after_kill(run)
        if ended == 0:
            break
        assert ended == signal.SIGKILL
        killed += 1
        if (out / "latents.json").exists():  # killed after the rename
            assert LatentArray(str(out)).batch(torch.arange(22)).x.shape == (22, 2, 4, 4)
        else:
            assert not out.exists()
            begun = out.with_name(f"{out.name}.part") / "progress.json"
            done = json.loads(begun.read_text())["done"] if begun.exists() else 0
            seen = []
            encode(Few(stop=seen.append), vae, out, batch=5)
            assert sum(map(len, seen)) - 1 == 22 - done  # one to look at, then those that are missing
            resumed += done > 0
            assert contents(out) == whole
    assert killed > 5
    assert resumed > 3


def test_what_fails_keeps_what_is_done(plain, tmp_path, monkeypatch):
    """A damaged picture, Ctrl-C and a full disk: each is told, and the same call goes on."""
    vae, out = Vae(plain[0]), tmp_path / "out"
    whole = contents(encode(Few(), vae, tmp_path / "whole", batch=5).folder)

    def damaged(index):
        if 13 in index:
            raise ValueError("13.png can't be read")

    with pytest.raises(ValueError, match=r"13\.png"):
        encode(Few(stop=damaged), vae, out, batch=5)
    begun = tmp_path / "out.part" / "progress.json"
    assert json.loads(begun.read_text())["done"] == 10

    def interrupted(index):
        if 16 in index:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode(Few(stop=interrupted), vae, out, batch=5)
    assert json.loads(begun.read_text())["done"] == 15
    put = NpyWriter.put

    def full(self, row, values):
        if row >= 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        put(self, row, values)

    with monkeypatch.context() as patch:
        patch.setattr(NpyWriter, "put", full)
        with pytest.raises(
            OSError, match=r"the disk is full: .*out\.part will hold \d+ bytes, and \d+ are free; .* run the same again"
        ) as error:
            encode(Few(), vae, out, batch=5)
        assert error.value.errno == errno.ENOSPC
    assert not out.exists()
    for other, said in (
        ({"batch": 4}, "begun with other settings: batch was 5, is 4"),
        ({"batch": 5, "dtype": "float32"}, "dtype was float16, is float32"),
        ({"batch": 5, "mirror": True}, "number was 22, is 44; mirrored was False, is True"),
    ):
        with pytest.raises(ValueError, match=said):
            encode(Few(), vae, out, **other)
    encode(Few(), vae, out, batch=5)
    assert contents(out) == whole


def test_a_stage_that_is_not_what_it_says_is_begun_again(plain, tmp_path):
    vae = Vae(plain[0])
    whole = contents(encode(Few(), vae, tmp_path / "whole", batch=5).folder)

    def stopped(index):
        if 16 in index:
            raise KeyboardInterrupt

    def cut(stage):
        os.truncate(stage / "mean.npy", 300)

    def other(stage):
        np.save(stage / "log_variance.npy", np.zeros((999, 3)))

    def nonsense(stage):
        (stage / "progress.json").write_text("{")

    def lost(stage):
        (stage / "labels.npy").unlink()

    for i, damage in enumerate((cut, other, nonsense, lost)):
        out = tmp_path / f"out-{i}"
        with pytest.raises(KeyboardInterrupt):
            encode(Few(stop=stopped), vae, out, batch=5)
        damage(tmp_path / f"out-{i}.part")
        encode(Few(), vae, out, batch=5)
        assert contents(out) == whole


def test_room_is_asked_for_before_the_work(plain, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(ValueError, match=r"which needs (\d+) bytes, and 1000 are free there") as error:
        encode(Few(stop=seen.append), Vae(plain[0]), tmp_path / "deep" / "out")
    # two files of 22 samples of 2x4x4 in two bytes, 22 labels in eight, three headers of 128
    assert f"needs {22 * (2 * 32 * 2 + 8) + 3 * 128} bytes" in str(error.value)
    assert len(seen) == 1
    assert not (tmp_path / "deep").exists()


def test_a_folder_that_is_taken_is_left_alone(plain, tmp_path):
    vae = Vae(plain[0])
    encode(Few(4), vae, tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(ValueError, match="which holds latents already"):
        encode(Few(4), vae, tmp_path / "out")
    assert contents(tmp_path / "out") == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    (tmp_path / "file").write_text("")
    for name in ("mine", "file"):
        with pytest.raises(ValueError, match="not an empty folder"):
            encode(Few(4), vae, tmp_path / name)
    (tmp_path / "empty").mkdir()
    assert len(encode(Few(4), vae, tmp_path / "empty")) == 4


def test_data_that_a_vae_cannot_take_or_give_back(plain, tmp_path):
    class Odd(Few):
        shape = (1, 7, 8)

        def batch(self, index):
            return Batch(torch.zeros(len(index), *self.shape), None)

    class Coloured(Odd):
        shape = (3, 8, 8)

    with pytest.raises(ValueError, match=r"shape \(1, 7, 8\) comes back from it as \(1, 6, 8\)"):
        encode(Odd(), Vae(plain[0]), tmp_path / "a")
    with pytest.raises(ValueError, match="of 1 channels; the data have 3"):
        encode(Coloured(), Vae(plain[0]), tmp_path / "b")


def test_latents_that_are_not_finite_are_told(plain, tmp_path):
    vae = Vae(plain[0])
    with torch.no_grad():
        vae._module.quant_conv.weight[0] *= 1e6
    with pytest.raises(
        ValueError, match="the latents of sample 0 are not finite with precision fp32 and dtype float16"
    ):
        encode(Few(), vae, tmp_path / "a")
    assert len(encode(Few(4), vae, tmp_path / "b", dtype="float32")) == 4


class Canary:
    """Unpickled, it would make the file that it names."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_pickled_weights_are_never_read(plain, tmp_path):
    """Fault 51: in every file name that diffusers knows, alone and beside safetensors."""
    sung = tmp_path / "sung"
    for beside in (False, True):
        folder = tmp_path / f"vae-{beside}"
        shutil.copytree(plain[0], folder)
        if not beside:
            (folder / "diffusion_pytorch_model.safetensors").unlink()
        for name in ("diffusion_pytorch_model.bin", "pytorch_model.bin", "diffusion_pytorch_model.fp16.bin"):
            torch.save({"x": Canary(sung)}, folder / name)
        if beside:
            Vae(folder)
        else:
            with pytest.raises(ValueError, match=r"holds no safetensors, only .*\.bin, a pickle, which is not read"):
                Vae(folder)
    torch.save(
        {"x": Canary(sung)}, tmp_path / "vae-False" / "diffusion_pytorch_model.safetensors"
    )  # a pickle by another name
    with pytest.raises(ValueError, match="can't be loaded"):
        Vae(tmp_path / "vae-False")
    assert not sung.exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (None, "holds no config.json"),
        ("nonsense", "is not JSON"),
        ({"_class_name": None}, "names no class"),
        ({"_class_name": "DDPMScheduler"}, "a DDPMScheduler, which is no autoencoder"),
        ({"_class_name": "UNet2DModel"}, "which is no autoencoder"),
        ({"_class_name": "os.system"}, "names no class"),
        ({"auto_map": {"AutoModel": "mine.Mine"}}, "has auto_map"),
        ({"quantization_config": {}}, "has quantization_config"),
        ({"block_out_channels": [4, 6]}, "can't be loaded|lack"),
        ({"layers_per_block": 2}, "lack|can't be loaded"),
    ],
)
def test_folders_that_are_no_vae(plain, tmp_path, change, said):
    folder = tmp_path / "vae"
    shutil.copytree(plain[0], folder)
    config = json.loads((folder / "config.json").read_text())
    if change is None:
        (folder / "config.json").unlink()
    else:
        (folder / "config.json").write_text(change if isinstance(change, str) else json.dumps({**config, **change}))
    with pytest.raises(ValueError, match=said):
        Vae(folder)


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def edited(**change):
    def edit(path):
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))

    return edit


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("mean.npy", flipped, "is not the file that was encoded"),
        ("log_variance.npy", flipped, "is not the file that was encoded"),
        ("labels.npy", lambda p: np.save(p, np.load(p)[::-1]), "is not the file that was encoded"),
        ("mean.npy", lambda p: os.truncate(p, 400), "truncated"),
        ("log_variance.npy", Path.unlink, "can't be read"),
        ("labels.npy", lambda p: np.save(p, np.full(22, 11)), "label 0 is 11; allowed: 0 to 9"),
        (
            "mean.npy",
            lambda p: np.save(p, np.zeros((21, 2, 4, 4), np.float16)),
            r"is \(21, 2, 4, 4\), not \(22, 2, 4, 4\)",
        ),
        ("latents.json", Path.unlink, "holds no latents.json.* that `sfumato encode` finished"),
        ("latents.json", lambda p: p.write_text("{"), "is damaged"),
        ("latents.json", lambda p: p.write_text("{}"), "is damaged: KeyError"),
        ("latents.json", edited(format=2), "of format 2; this version reads up to 1"),
        ("latents.json", edited(files={"../../x.npy": {"sha256": ""}}), "names a file '../../x.npy'"),
    ],
)
def test_damaged_latents_are_refused(plain, tmp_path, name, damage, said):
    encode(Few(), Vae(plain[0]), tmp_path / "latents")
    damage(tmp_path / "latents" / name)
    with pytest.raises(ValueError, match=said):
        LatentArray(str(tmp_path / "latents")).batch(torch.tensor([0]))


def test_hashes_may_be_passed_over_and_a_scan_still_sees_nan(plain, tmp_path):
    data = encode(Few(), Vae(plain[0]), tmp_path / "latents")
    assert [data.problem(i) for i in range(22)] == [None] * 22
    rows = np.load(tmp_path / "latents" / "log_variance.npy")
    rows[7, 1, 2, 3] = np.nan
    np.save(tmp_path / "latents" / "log_variance.npy", rows)
    quick = LatentArray(data.folder, verify=False)
    assert quick.batch(torch.tensor([7])).spread.isnan().sum() == 1
    assert [i for i in range(22) if quick.problem(i)] == [7]
