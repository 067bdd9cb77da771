"""The Inception network of FID: numbers recorded from torch-fidelity, names of two libraries, and other files refused."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from sfumato.diffusion.measuring import Extractor, Inception, identity, look
from sfumato.diffusion.measuring.inception_blocks import InceptionNetwork
from sfumato.diffusion.measuring.inception_weights import CONVERSION
from sfumato.tools.parts import choices


def made_up() -> dict[str, Tensor]:
    """Weights that are the same bits on every machine, of such a size that the signal lives through all blocks."""
    with torch.device("meta"):
        shapes = {k: v.shape for k, v in InceptionNetwork().state_dict().items() if v.ndim}
    found = {}
    for place, (key, shape) in enumerate(shapes.items()):
        n = (torch.arange(math.prod(shape)) + place * 2**24) * 0x9E3779B1 & 0xFFFFFFFF
        n = (n ^ n >> 15) * 0x85EBCA77 & 0xFFFFFFFF
        z = ((n ^ n >> 13).double() / 2**32 - 0.5).mul(math.sqrt(12)).view(shape).float()  # of variance 1
        if z.ndim > 1:
            found[key] = z * math.sqrt(2 / math.prod(shape[1:]))
        else:
            found[key] = 1 + 0.2 * z.abs() if key.endswith(("bn.weight", "running_var")) else 0.1 * z
    return found


def two() -> Tensor:
    """Two pictures of 40x32, by whole numbers."""
    n = torch.arange(2 * 3 * 40 * 32)
    return ((n * n * 7 + n * 13) % 251).to(torch.uint8).view(2, 3, 40, 32)


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return made_up()


@pytest.fixture(scope="module")
def file(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inception") / "weights.safetensors"
    save_file(state, path)
    return path


# torch-fidelity 0.4.0, FeatureExtractorInceptionV3 with `made_up` weights, of `two`: the largest feature of each of the last block's six
# paths (2048), and three scores without the bias (logits_unbiased) and with it (logits)
_PLACES, _CLASSES = [131, 355, 1084, 1340, 1697, 2012], [0, 500, 1000]
_FEATURES = [
    [17.991835, 25.167532, 22.879686, 16.92337, 22.653992, 23.446404],
    [17.84584, 25.429611, 22.637682, 16.895182, 22.635935, 23.021935],
]
_SCORES = [[-12.683547, 3.9655738, 12.510395], [-12.220808, 4.0339556, 12.373509]]
_BIASED = [[-12.765893, 4.1155753, 12.382933], [-12.303154, 4.1839571, 12.246047]]
_MEANS = (3.1247495822573255, 0.1896163277801067)


def test_numbers_of_torch_fidelity(file: Path, state: dict[str, Tensor]) -> None:
    extractor = Inception(str(file))
    seen = look(extractor, two())
    assert seen.features.shape == (2, 2048)
    assert seen.logits is not None
    assert seen.logits.shape == (2, 1008)
    near = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(seen.features[:, _PLACES], torch.tensor(_FEATURES), **near)
    torch.testing.assert_close(seen.logits[:, _CLASSES], torch.tensor(_SCORES), **near)
    assert float(seen.features.double().mean()) == pytest.approx(_MEANS[0], rel=1e-6)
    assert float(seen.logits.double().mean()) == pytest.approx(_MEANS[1], rel=1e-5)
    # with the bias, what torch-fidelity calls logits
    biased = extractor._network.fc(seen.features)
    torch.testing.assert_close(biased[:, _CLASSES], torch.tensor(_BIASED), **near)
    assert extractor.fingerprint == "5391f1c9e8c0e045"  # of the weights, which are the same bits everywhere


def test_what_it_says_of_itself(file: Path) -> None:
    about = identity(Inception(str(file)))
    assert about["short"] == "FID"
    assert about["num_features"] == 2048
    assert "TensorFlow 1" in about["resize"]
    assert "(x - 128) / 128; grey three times" in about["resize"]
    clean, torchs, other = (Inception(str(file), resizing=how) for how in ("pillow", "torch", "antialiased_bicubic"))
    assert (clean.short, torchs.short, other.short) == ("FID-clean", "FID-pytorch", "FD-Inception")
    assert "127.5" in torchs.resize
    assert isinstance(clean, Extractor)
    assert choices(Extractor)["Inception"] is Inception


def test_the_names_of_pytorch_fid_are_read(file: Path, state: dict[str, Tensor], tmp_path: Path) -> None:
    """blocks.0 to blocks.3, without the last layer, at half precision: the same network, and no scores."""
    order = (
        ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"),
        ("Conv2d_3b_1x1", "Conv2d_4a_3x3"),
        tuple(f"Mixed_{n}" for n in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e")),
        ("Mixed_7a", "Mixed_7b", "Mixed_7c"),
    )
    names = {module: f"blocks.{i}.{j}" for i, block in enumerate(order) for j, module in enumerate(block)}
    theirs = {}
    for key, value in state.items():
        module, _, rest = key.partition(".")
        if module != "fc":
            theirs[f"{names[module]}.{rest}"] = value
            if rest.endswith("running_var"):
                theirs[f"{names[module]}.{rest.replace('running_var', 'num_batches_tracked')}"] = torch.tensor(5)
    save_file(theirs, tmp_path / "theirs.safetensors")
    a, b = Inception(str(tmp_path / "theirs.safetensors"))._network, Inception(str(file))._network
    assert not hasattr(a, "fc")
    mine = b.state_dict()
    assert all(torch.equal(v, mine[k]) for k, v in a.state_dict().items())
    with pytest.raises(ValueError, match=r"bias is true, and .* holds no last layer"):
        Inception(str(tmp_path / "theirs.safetensors"), bias=True)


def test_other_files_are_refused_with_what_to_do(file: Path, state: dict[str, Tensor], tmp_path: Path) -> None:
    def refuses(path: Path, words: str) -> None:
        with pytest.raises(ValueError, match=words):
            Inception(str(path))

    refuses(
        tmp_path / "none.safetensors", r"is no file; nothing is downloaded here\. Take pytorch-fid's .* Once: python -c"
    )
    pickled = tmp_path / "pt_inception.pth"
    pickled.touch()
    refuses(pickled, r"allowed: a \.safetensors file, since reading a pickle runs what is in it\. Once: python")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"hello")
    refuses(broken, "can't be read as safetensors")
    small = {k: torch.zeros(()) for k in state}  # only names and shapes are looked at

    def written(tensors: dict[str, Tensor]) -> Path:
        save_file(tensors, tmp_path / "other.safetensors")
        return tmp_path / "other.safetensors"

    refuses(
        written({"fc.weight": torch.zeros(1000, 1)}), "another Inception, of 1000 classes, as torchvision trained it"
    )
    refuses(
        written({k: v for k, v in small.items() if "Mixed_7c" not in k and "fc" not in k}), r"lacks Mixed_7c\.\S+ and"
    )
    refuses(
        written({**{k: v for k, v in small.items() if "fc" not in k}, "more": torch.ones(1)}),
        "holds also more, and is not",
    )
    refuses(written({k: v for k, v in small.items() if "fc" not in k}), r"\S+ has shape \(\); allowed: \(32, 3, 3, 3\)")
    with pytest.raises(ValueError, match=r"Inception\.resizing is 'clean'; allowed: tensorflow1, pillow"):
        Inception(str(file), resizing="clean")  # pyright: ignore[reportArgumentType]


def test_the_line_that_converts(tmp_path: Path) -> None:
    """It is the same in the module's first lines, and it runs."""
    told = sys.modules[Inception.__module__].__doc__
    assert told is not None
    assert re.sub(r"\s+", " ", CONVERSION) in re.sub(r"\s+", " ", told.replace("\\\n", ""))
    torch.save({"a": torch.arange(6.0).view(2, 3).T}, tmp_path / "some.name.pth")
    code = CONVERSION.partition('"')[2].rpartition('"')[0]
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "some.name.pth")], check=True)
    from safetensors.torch import load_file

    assert load_file(tmp_path / "some.name.safetensors")["a"].tolist() == [[0, 3], [1, 4], [2, 5]]
