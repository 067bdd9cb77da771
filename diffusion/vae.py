"""Variational autoencoders of diffusers: pictures to latents and back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from .latent_scale import latent_scale
from .quiet import quietly
from .strange_keys import strange_keys
from .whole_file import file_hash

__all__ = ["Posterior", "Precision", "Vae"]

Precision = Literal["fp32", "bf16", "fp16"]
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Posterior(NamedTuple):
    """What a VAE makes of pictures: mean and log_variance, float32 (B, c, h, w), unscaled; no log_variance where it has no distribution."""

    mean: Tensor
    log_variance: Tensor | None


class Vae:
    """A VAE from a folder of diffusers: AutoencoderKL, AutoencoderTiny, AutoencoderKLWan, ...

    `shift` and `scaling`, (c,) or (1,), are the config's (shift_factor, scaling_factor, latents_mean, latents_std): a network is trained on
    (latents - shift) * scaling. A VAE of videos takes pictures as videos of one frame.

    Args:
        folder: with config.json and safetensors, or a pipeline's, whose vae/ is taken. Pickled weights (.bin) are never read.
        device: cpu, cuda, ...
        precision: of the weights and the arithmetic.

    Raises:
        ValueError: for a folder that holds no VAE, pickled weights only, or not all of them.
    """

    def __init__(self, folder: str | Path, device: str = "cpu", precision: Precision = "fp32") -> None:
        if precision not in _DTYPES:
            raise ValueError(f"precision is {precision!r}; allowed: {', '.join(_DTYPES)}")
        given = Path(folder)
        self.folder: Path | None = given / "vae" if not (given / "config.json").is_file() else given
        self.says = f"the VAE is {str(folder)!r}"
        self.precision: Precision = precision
        self.dtype = _DTYPES[precision]
        self._config: dict[str, Any] = self._read_config(self.folder)
        self._module: Any = self._load(self.folder)
        try:
            self._module.to(device)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f"device is {device!r}, which can't be used here: {error}") from error
        self.device = torch.device(device)
        self._learn()

    @classmethod
    def of(cls, module: nn.Module) -> Vae:
        """A VAE of diffusers that was made already; it is used, not copied, and stays where and as it is.

        Args:
            module: such as a pipeline's `vae`.

        Raises:
            ValueError: for what is no autoencoder of diffusers, or computes in another dtype than these.
        """
        made, name = cls.__new__(cls), type(module).__name__
        if not all(hasattr(module, key) for key in ("encode", "decode", "config")):
            raise ValueError(
                f"vae is a {name}, which is no autoencoder of diffusers; give a pipeline's vae, or its folder"
            )
        weight = next(module.parameters())
        found: list[Any] = [key for key, dtype in _DTYPES.items() if dtype == weight.dtype]
        if not found:
            raise ValueError(f"the VAE computes in {weight.dtype}; allowed: {', '.join(map(str, _DTYPES.values()))}")
        given: Any = module.config
        made.folder, made.says, made.precision, made.dtype = None, f"the VAE is a {name}", found[0], weight.dtype
        made._config, made._module, made.device = {"_class_name": name, **given}, module.eval(), weight.device
        made._learn()
        return made

    @property
    def overflows(self) -> bool:
        """Whether it says that it needs more than the float16 that it is in, as SDXL's does."""
        return self.dtype == torch.float16 and bool(self._config.get("force_upcast", False))

    def _learn(self) -> None:
        """What the config says of the latents."""
        config: dict[str, Any] = dict(self._module.config)
        self.channels: int | None = config.get("in_channels")
        self.shift, self.scaling = latent_scale(config, dict(self._module.named_buffers()))
        self._video = any(isinstance(m, nn.Conv3d) for m in self._module.modules())

    def _read_config(self, folder: Path) -> dict[str, Any]:
        try:
            config = json.loads((folder / "config.json").read_text())
        except OSError as error:
            raise ValueError(
                f"{self.says}, which holds no config.json; give a folder that save_pretrained of diffusers wrote"
            ) from error
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{self.says}, whose config.json is not JSON: {error}") from error
        name = config.get("_class_name") if isinstance(config, dict) else None
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"{self.says}, whose config.json names no class of diffusers (_class_name)")
        strange = strange_keys(config)
        if strange:
            raise ValueError(f"{self.says}, whose config.json has {', '.join(strange)}; give the plain weights")
        return config

    def _load(self, folder: Path) -> Any:
        name = self._config["_class_name"]
        with quietly():
            import diffusers  # heavy, so not before a VAE is asked for

            cls: Any = getattr(diffusers, name, None)
        if not isinstance(cls, type) or not issubclass(cls, nn.Module) or not hasattr(cls, "encode"):
            raise ValueError(
                f"{self.says}, a {name}, which is no autoencoder that diffusers {diffusers.__version__} has"
            )
        made: Any = cls  # diffusers' own base class is not exported
        if not any(folder.glob("*.safetensors")):
            pickled = "".join(f", only {p.name}, a pickle, which is not read" for p in sorted(folder.glob("*.bin"))[:1])
            raise ValueError(
                f"{self.says}, which holds no safetensors{pickled}; "
                "save it again by save_pretrained(folder, safe_serialization=True)"
            )
        try:
            module, found = made.from_pretrained(
                str(folder), use_safetensors=True, local_files_only=True, torch_dtype=self.dtype, output_loading_info=True,
                low_cpu_mem_usage=False,
            )  # fmt: skip
        except Exception as error:  # a folder may be wrong in any way
            raise ValueError(f"{self.says}, which can't be loaded: {type(error).__name__}: {error}") from error
        lacks = [*found["missing_keys"], *found["mismatched_keys"]]
        if lacks:  # diffusers would leave them at random
            raise ValueError(
                f"{self.says}, whose weights lack {lacks[0]}{f' and {len(lacks) - 1} more' * (len(lacks) > 1)}"
            )
        return module.eval().requires_grad_(False)

    def describe(self) -> dict[str, str]:
        """Which VAE it is: name of the folder, class, and the hashes of its config and weights."""
        config = {k: v for k, v in self._config.items() if not k.startswith("_")}
        if self.folder is None:
            weights = hashlib.sha256()
            for name, value in sorted(self._module.state_dict().items()):
                weights.update(name.encode() + value.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
            folder = ""
        else:
            weights = hashlib.sha256("".join(file_hash(p) for p in sorted(self.folder.glob("*.safetensors"))).encode())
            inside = self.folder.name == "vae"
            folder = "/".join(self.folder.resolve().parts[-2:]) if inside else self.folder.resolve().name
        return {
            "folder": folder,
            "class": self._config["_class_name"],
            "config": hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest(),
            "weights": weights.hexdigest(),
        }

    @torch.inference_mode()
    def encode(self, x: Tensor) -> Posterior:
        """The posterior of pictures (B, C, H, W) in [-1, 1], or of videos (B, C, T, H, W), on x's device.

        Raises:
            ValueError: for another number of channels.
        """
        if self.channels is not None and x.shape[1] != self.channels:
            raise ValueError(f"{self.says}, of {self.channels} channels; the data have {x.shape[1]}")
        frame = self._video and x.ndim == 4
        given = x.to(self.device, self.dtype)
        out = self._module.encode(given[:, :, None] if frame else given)
        if hasattr(out, "latent_dist"):
            mean, log_variance = out.latent_dist.mean, getattr(out.latent_dist, "logvar", None)
            if log_variance is None:
                log_variance = 2 * out.latent_dist.std.log()
        else:
            mean, log_variance = out.latents if hasattr(out, "latents") else out.latent, None
        found = [
            None if t is None else (t[:, :, 0] if frame else t).to(x.device, torch.float32)
            for t in (mean, log_variance)
        ]
        assert found[0] is not None
        return Posterior(found[0], found[1])

    @torch.inference_mode()
    def decode(self, x: Tensor) -> Tensor:
        """The pictures, float32 in [-1, 1] (cut to it), of scaled latents (B, c, h, w) as a network makes them; on their device."""
        shift, scaling = (t.view(-1, *[1] * (x.ndim - 2)).to(x.device) for t in (self.shift, self.scaling))
        frame = self._video and x.ndim == 4
        raw = (x.float() / scaling + shift).to(self.device, self.dtype)
        out = self._module.decode(raw[:, :, None] if frame else raw).sample
        return (out[:, :, 0] if frame else out).to(x.device, torch.float32).clamp(-1, 1)

    def picture_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """(C, H, W) of the pictures that latents of a shape become.

        Args:
            shape: (c, h, w).
        """
        _, height, width = shape
        channels, factor = self._grows
        return channels, height * factor, width * factor

    @cached_property
    def _grows(self) -> tuple[int, int]:
        """Channels of a picture, and how many pixels a latent becomes: measured, since each class says it in another way."""
        config = dict(self._module.config)
        known = (config.get(key) for key in ("latent_channels", "z_dim", "vq_embed_dim"))
        channels = next((int(v) for v in known if v), max(len(self.shift), len(self.scaling)))
        out = self.decode(torch.zeros(1, channels, 8, 8))
        return out.shape[1], out.shape[-1] // 8
