"""DINOv2 and CLIP in a folder: what transformers and Pillow say, and what is refused before anything is loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from sfumato.diffusion.measuring import CLIP, DINOv2, Extractor, identity, look

_SIZE = 28
_MEAN, _STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
_TOLD = {
    "do_center_crop": True, "crop_size": {"height": _SIZE, "width": _SIZE}, "size": {"shortest_edge": 32},
    "image_mean": _MEAN, "image_std": _STD, "rescale_factor": 0.00392156862745098,
}  # fmt: skip
_VISION = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": _SIZE,
    "patch_size": 14,
}  # fmt: skip


def pictures(channels: int = 3, height: int = 33, width: int = 40) -> Tensor:
    shape = (3, channels, height, width)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def fed(x: Tensor) -> Tensor:
    """What the authors' preprocessing makes of pictures: Pillow's bicubic on bytes, then mean and deviation."""
    images = [
        Image.fromarray(one.permute(1, 2, 0).numpy()).resize((_SIZE, _SIZE), Image.Resampling.BICUBIC) for one in x
    ]
    values = torch.from_numpy(np.stack([np.asarray(i) for i in images])).permute(0, 3, 1, 2) / 255
    return (values - torch.tensor(_MEAN).view(3, 1, 1)) / torch.tensor(_STD).view(3, 1, 1)


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    from transformers import Dinov2Config, Dinov2Model

    folder = tmp_path_factory.mktemp("extractors") / "dino"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Dinov2Model(Dinov2Config(**_VISION)).eval()
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(_TOLD))
    return folder, model


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A whole CLIP whose vision half does not say how wide the projection is, with the config of a processor."""
    from transformers import CLIPConfig, CLIPModel

    folder = tmp_path_factory.mktemp("extractors") / "clip"
    text = {
        "vocab_size": 10, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "bos_token_id": 0, "eos_token_id": 1,
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=_VISION, projection_dim=12)).eval()
    model.save_pretrained(folder)
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": {**_TOLD, "crop_size": _SIZE}}))
    return folder, model


def test_dinov2_is_its_class_token_after_the_norm(dino: tuple[Path, Any]) -> None:
    folder, model = dino
    extractor, x = DINOv2(str(folder)), pictures()
    with torch.no_grad():
        wanted = model(pixel_values=fed(x))
    found = look(extractor, x)
    torch.testing.assert_close(found.features, wanted.pooler_output, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.features, wanted.last_hidden_state[:, 0], rtol=0, atol=1e-6)
    assert found.logits is None
    # a norm with neither slope nor offset in a new model: mean 0 and variance 1
    assert float(found.features.mean(1).abs().max()) < 1e-5
    assert (extractor.num_features, extractor.short) == (16, "FD-DINOv2")
    assert isinstance(extractor, Extractor)


def test_clip_is_its_image_embedding(clip: tuple[Path, Any]) -> None:
    folder, model = clip
    extractor, x = CLIP(str(folder)), pictures()
    with torch.no_grad():
        hidden = model.vision_model(pixel_values=fed(x)).pooler_output
    torch.testing.assert_close(
        look(extractor, x).features, hidden @ model.visual_projection.weight.T, rtol=0, atol=1e-6
    )
    assert (extractor.num_features, extractor.short) == (12, "FD-CLIP")


@pytest.mark.parametrize("cls", [DINOv2, CLIP])
def test_a_picture_is_seen_alone_and_a_grey_one_as_three_channels(cls: Any, request: pytest.FixtureRequest) -> None:
    folder, _ = request.getfixturevalue("dino" if cls is DINOv2 else "clip")
    extractor, x = cls(str(folder)), pictures()
    together = look(extractor, x).features
    torch.testing.assert_close(
        torch.cat([look(extractor, one[None]).features for one in x]), together, rtol=0, atol=2e-6
    )
    grey = pictures(channels=1)
    same = look(extractor, grey.expand(-1, 3, -1, -1)).features
    assert torch.equal(look(extractor, grey).features, same)
    # another way of resizing is another number
    assert float((look(cls(str(folder), resizing="tensorflow1"), x).features - together).abs().max()) > 1e-3


def test_what_it_says_of_itself(dino: tuple[Path, Any], clip: tuple[Path, Any], tmp_path: Path) -> None:
    folder, model = dino
    about = identity(DINOv2(str(folder)))
    assert "28x28, bicubic as Pillow's on bytes" in about["resize"]
    assert "0.485/0.456/0.406 and 0.229/0.224/0.225" in about["resize"]
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    assert DINOv2(str(moved)).fingerprint == about["hash"] != CLIP(str(clip[0])).fingerprint
    with torch.no_grad():
        changed = type(model)(model.config)
        changed.load_state_dict(model.state_dict())
        changed.layernorm.bias[3] += 1e-3
    changed.save_pretrained(moved)
    assert DINOv2(str(moved)).fingerprint != about["hash"]


def _write(folder: Path, name: str, **changes: Any) -> None:
    known = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({k: v for k, v in {**known, **changes}.items() if v is not None}))


@pytest.mark.parametrize(
    ("file", "changes", "words"),
    [
        ("preprocessor_config.json", {"image_mean": None}, "image_mean None"),
        ("preprocessor_config.json", {"image_std": [0.2, 0.0, 0.2]}, "three numbers each"),
        ("preprocessor_config.json", {"crop_size": {"height": 28, "width": 30}}, "a size of None; allowed: a square"),
        ("preprocessor_config.json", {"rescale_factor": 1 / 127.5}, "rescale_factor 0.0078.*allowed: 1/255"),
        ("config.json", {"model_type": "vit"}, "a model of type 'vit'; allowed: dinov2, dinov2_with_registers"),
        ("config.json", {"auto_map": {"AutoModel": "mine.Model"}}, "whose config.json has auto_map; give the plain weights"),
    ],
)  # fmt: skip
def test_what_a_folder_may_not_say(
    dino: tuple[Path, Any], tmp_path: Path, file: str, changes: dict[str, Any], words: str
) -> None:
    shutil.copytree(dino[0], tmp_path / "odd")
    _write(tmp_path / "odd", file, **changes)
    with pytest.raises(ValueError, match=rf"DINOv2\.folder is .*{words}"):
        DINOv2(str(tmp_path / "odd"))


def test_refusals(dino: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"which is not a folder; allowed: .* hub:OWNER/NAME, which is downloaded"):
        DINOv2("facebook/dinov2-large")
    with pytest.raises(ValueError, match="allowed: a folder, or hub:OWNER/NAME"):
        CLIP("hub:clip")
    with pytest.raises(ValueError, match=r"revision is 'main', and DINOv2\.folder is .* leave it out"):
        DINOv2(str(dino[0]), revision="main")
    with pytest.raises(ValueError, match=r"CLIP\.resizing is 'best'; allowed: tensorflow1"):
        CLIP(str(dino[0]), resizing="best")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="a model of type 'dinov2'; allowed: clip, clip_vision_model"):
        CLIP(str(dino[0]))
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"holds no safetensors, only pytorch_model\.bin, a pickle"):
        DINOv2(str(tmp_path))
    bare = tmp_path / "bare"
    shutil.copytree(dino[0], bare)
    (bare / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match=r"holds no preprocessor_config\.json, so that size, mean"):
        DINOv2(str(bare))
    from transformers.utils import hub

    def offline(*_: Any, **__: Any) -> None:
        raise OSError("We couldn't connect to 'https://huggingface.co'")

    monkeypatch.setattr(hub, "cached_file", offline)
    far = DINOv2("hub:facebook/dinov2-large")  # asks nothing yet
    with pytest.raises(
        ValueError, match=r"'hub:facebook/dinov2-large', which can't be loaded: OSError: We couldn't connect"
    ):
        look(far, pictures())


def test_weights_that_lack_something_are_refused(dino: tuple[Path, Any], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "lacks"
    shutil.copytree(dino[0], folder)
    weights = load_file(folder / "model.safetensors")
    weights.pop("layernorm.bias")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"whose weights lack layernorm\.bias"):
        look(DINOv2(str(folder)), pictures())
