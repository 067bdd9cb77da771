"""Text encoders of transformers: the one file of this folder that knows that library."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .npy import sampled_hash
from .quiet import quietly
from .strange_keys import strange_keys
from .vae import Precision

__all__ = ["HuggingFaceText"]

_AT_ONCE = 8  # texts at a time, always as many: of other numbers a matrix product may round otherwise
_ENCODERS = {
    "clip": "CLIPTextModel", "clip_text_model": "CLIPTextModel", "t5": "T5EncoderModel", "mt5": "MT5EncoderModel",
    "umt5": "UMT5EncoderModel",
}  # fmt: skip
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class _Loaded(NamedTuple):
    tokenizer: Any
    model: Any


@dataclass(frozen=True)
class HuggingFaceText:
    """The hidden states of a text encoder in a folder, such as CLIP's, T5's or BERT's; its weights are read when a text is first encoded.

    Padding is masked, and texts longer than `length` are cut. Of the weights only safetensors are read, nothing is downloaded, and no code
    of the folder's is run.

    Args:
        folder: with config.json, safetensors and the tokenizer's files; or a pipeline's of diffusers, whose text_encoder/ and tokenizer/
            are taken.
        length: tokens of a text, >= 2.
        layer: which layer's output: -1, the last one's, after the final norm; -2, -3, ...: earlier ones, as they are.
        precision: of the weights and the arithmetic; the result is float32.
        device: where it runs.
        fingerprint: of config, tokenizer and weights (of files above 4 MiB, of 64 blocks): what a run keeps, so that it refuses another
            encoder; null: that of what is in the folder.

    Raises:
        ValueError: for a folder that holds no encoder, or another one than the fingerprint's, and for other values.
    """

    folder: str
    length: int = 77
    layer: int = -1
    precision: Precision = "fp32"
    device: str = "cpu"
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        if self.length < 2:
            raise ValueError(f"HuggingFaceText.length is {self.length}; allowed: >= 2")
        if self.layer >= 0:
            raise ValueError(
                f"HuggingFaceText.layer is {self.layer}; allowed: -1, the last, -2, the one before it, ..."
            )
        if self.precision not in _DTYPES:
            raise ValueError(f"HuggingFaceText.precision is {self.precision!r}; allowed: {', '.join(_DTYPES)}")
        if self.fingerprint is None:
            object.__setattr__(self, "fingerprint", self._found())

    @property
    def _says(self) -> str:
        return f"HuggingFaceText.folder is {self.folder!r}"

    @property
    def _places(self) -> tuple[Path, Path]:
        """The folders of the encoder and of its tokenizer."""
        given = Path(self.folder)
        if (given / "text_encoder").is_dir():
            return given / "text_encoder", given / "tokenizer"
        return given, given

    def _found(self) -> str:
        """The fingerprint of what is in the folder."""
        encoder, tokenizer = self._places
        weights = sorted(encoder.glob("*.safetensors"))
        if not (encoder / "config.json").is_file() or not weights:
            pickled = next(iter(sorted(encoder.glob("*.bin"))), None)
            only = f", only {pickled.name}, a pickle, which is not read" if pickled is not None else ""
            raise ValueError(
                f"{self._says}, which holds no config.json with safetensors{only}; give a folder that save_pretrained of transformers wrote"
            )
        words = [
            p
            for p in sorted(tokenizer.glob("*"))
            if p.suffix in (".json", ".txt", ".model") and p.name != "config.json"
        ]
        if not words:
            raise ValueError(f"{self._says}, and {tokenizer} holds no tokenizer; save it there by its save_pretrained")
        try:
            config = json.loads((encoder / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ValueError(f"{self._says}, whose config.json can't be read as JSON: {error}") from error
        if not isinstance(config, dict):
            raise ValueError(f"{self._says}, whose config.json holds no config")
        strange = strange_keys(config)
        if strange:
            raise ValueError(f"{self._says}, whose config.json has {', '.join(strange)}; give the plain weights")
        # what says where and by which version it was saved is no difference
        plain = {
            k: v
            for k, v in config.items()
            if k not in ("_name_or_path", "transformers_version", "torch_dtype", "dtype")
        }
        found = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
        for path in (*words, *weights):
            found.update(f"{path.name} {sampled_hash(path)}".encode())
        return found.hexdigest()[:16]

    @cached_property
    def _loaded(self) -> _Loaded:
        try:
            with quietly():
                import transformers
        except ImportError as error:
            raise ValueError("text HuggingFaceText needs transformers: pip install 'sfumato[text]'") from error
        found = self._found()
        if found != self.fingerprint:
            raise ValueError(
                f"{self._says}, which holds the encoder {found}, and not {self.fingerprint}, with which the run was begun (or its texts "
                "were encoded); give the folder of that one"
            )
        encoder, tokenizer = self._places
        kind = json.loads((encoder / "config.json").read_text()).get("model_type", "")
        made: Any = getattr(transformers, _ENCODERS.get(kind, "AutoModel"))
        safe: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            words = transformers.AutoTokenizer.from_pretrained(str(tokenizer), **safe)
            model, told = made.from_pretrained(
                str(encoder), use_safetensors=True, dtype=_DTYPES[self.precision], output_loading_info=True, **safe
            )
            model.to(self.device)
        except Exception as error:  # a folder may be wrong in any way
            raise ValueError(f"{self._says}, which can't be loaded: {type(error).__name__}: {error}") from error
        if lacks := sorted(map(str, [*told["missing_keys"], *told["mismatched_keys"]])):  # they would be left at random
            raise ValueError(
                f"{self._says}, whose weights lack {lacks[0]}{f' and {len(lacks) - 1} more' * (len(lacks) > 1)}"
            )
        if getattr(model.config, "is_encoder_decoder", False) and kind not in _ENCODERS:
            raise ValueError(
                f"{self._says}, a {kind}, which reads and writes; allowed: an encoder, such as CLIP, T5 or BERT"
            )
        if words.pad_token is None:
            words.pad_token = words.eos_token
        return _Loaded(words, model.eval().requires_grad_(False))

    def encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """text, float32 (B, length, the encoder's width), zero where text_mask, bool (B, length), is false; on the host."""
        tokenizer, model = self._loaded
        text: list[Tensor] = []
        masks: list[Tensor] = []
        for first in range(0, len(prompts), _AT_ONCE):
            few = list(prompts[first : first + _AT_ONCE])
            filled = few + [""] * (_AT_ONCE - len(few))
            told = tokenizer(filled, padding="max_length", max_length=self.length, truncation=True, return_tensors="pt")
            tokens, mask = told["input_ids"], told["attention_mask"].bool()
            with torch.inference_mode(), torch.autocast(torch.device(self.device).type, enabled=False):
                out = model(
                    input_ids=tokens.to(self.device), attention_mask=told["attention_mask"].to(self.device),
                    output_hidden_states=self.layer != -1,
                )  # fmt: skip
                hidden = out.last_hidden_state if self.layer == -1 else self._at(out.hidden_states)
            rows = hidden.float().cpu()
            text.append(torch.where(mask[:, :, None], rows, 0.0)[: len(few)].clone())
            masks.append(mask[: len(few)])
        return {"text": torch.cat(text), "text_mask": torch.cat(masks)}

    def _at(self, states: Sequence[Tensor]) -> Tensor:
        if -self.layer >= len(states):
            raise ValueError(
                f"HuggingFaceText.layer is {self.layer}; allowed for this encoder: -1 to {1 - len(states)}"
            )
        return states[self.layer]
