"""Texts that were encoded once, before training."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..schedules.parts import build, describe
from .npy import gather, open_npy
from .npy_writer import NpyWriter
from .progress import progress_bar
from .prompts import TextEncoder
from .texts import encoder_identity
from .whole_file import file_hash, replace_text

__all__ = ["TEXTS", "StoredText", "store_texts"]

TEXTS, _PROMPTS = "text.json", "prompts.json"
_FORMAT, _ROUND = 1, 64
_KINDS = ("float32", "float16", "bool", "int64")


@dataclass(frozen=True)
class StoredText:
    """What an encoder made of texts, read from a folder that `sfumato encode --text` wrote; the encoder is loaded for other texts only.

    Args:
        folder: of the texts. When it is not there any more, everything is encoded anew.
        encoder: what encodes other texts; null: that which the folder names. A run keeps it.

    Raises:
        ValueError: for a folder that holds no texts and no encoder to do without, and files that are not those that were written.
    """

    folder: str
    encoder: TextEncoder | None = None

    def __post_init__(self) -> None:
        if self.encoder is None:
            about = self._about
            if about is None:
                raise ValueError(
                    f"StoredText.folder is {self.folder!r}, which holds no {TEXTS}; give a folder that `sfumato encode --text` wrote"
                )
            # of ours only: a folder of somebody else chooses among encoders, it does not run code
            object.__setattr__(self, "encoder", build(about["encoder"], at="StoredText.encoder"))

    def __getstate__(self) -> dict[str, Any]:
        """Copied and sent to other processes as what was said, not as what is in the files."""
        return {f.name: self.__dict__[f.name] for f in fields(self)}

    @cached_property
    def _about(self) -> dict[str, Any] | None:
        """What text.json says; None where there is none."""
        file = Path(self.folder) / TEXTS
        if not file.is_file():
            return None
        try:
            about = json.loads(file.read_text())
            if about["format"] > _FORMAT:
                raise ValueError(
                    f"StoredText.folder is {self.folder!r}, of format {about['format']}; this version reads up to {_FORMAT}: use the "
                    "Sfumato that wrote it"
                )
            for name in (_PROMPTS, *(f"{key}.npy" for key in about["keys"])):
                if Path(name).name != name or not isinstance(about["files"][name], str):
                    raise ValueError(f"{file} names {name!r}, which is no file of texts; encode again")
            about["encoder"]["class_path"]
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError, OSError) as error:
            raise ValueError(f"{file} is damaged: {type(error).__name__}: {error}; encode again") from error
        return about

    @cached_property
    def _place(self) -> dict[str, int]:
        """Where the row of a text is."""
        if self._about is None:
            return {}
        own, made = (encoder_identity(d) for d in (describe(self.encoder), self._about["encoder"]))
        if own != made:
            raise ValueError(
                f"StoredText.encoder is {own}, and the texts in {self.folder} were encoded by {made}; leave encoder out"
            )
        for name, known in self._about["files"].items():
            if file_hash(Path(self.folder) / name) != known:
                raise ValueError(f"{Path(self.folder) / name} is not the file that was encoded; encode again")
        prompts = json.loads((Path(self.folder) / _PROMPTS).read_text(encoding="utf-8"))
        return {prompt: i for i, prompt in enumerate(prompts)}

    @cached_property
    def _rows(self) -> dict[str, np.memmap]:
        keys = self._about["keys"] if self._about is not None else []
        return {key: open_npy(Path(self.folder) / f"{key}.npy", f"StoredText.folder: {key}", _KINDS) for key in keys}

    def encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """As the encoder's, to the last bit where it was stored as float32."""
        place = self._place
        strange = list(dict.fromkeys(p for p in prompts if p not in place))
        new: dict[str, Tensor] = {}
        if strange:
            assert self.encoder is not None
            new = self.encoder.encode(strange)
            if len(strange) == len(prompts):
                return new
        known = [p for p in prompts if p in place]
        index = torch.tensor([place[p] for p in known], dtype=torch.int64)
        stored = {key: torch.from_numpy(gather(rows, index)) for key, rows in self._rows.items()}
        stored = {key: rows.float() if rows.is_floating_point() else rows for key, rows in stored.items()}
        if not strange:
            return stored
        at = {p: i for i, p in enumerate([*dict.fromkeys(known), *strange])}
        first = torch.tensor([known.index(p) for p in dict.fromkeys(known)])
        both = {key: torch.cat([stored[key][first], new[key].to(stored[key])]) for key in stored}
        pick = torch.tensor([at[p] for p in prompts])
        return {key: rows[pick] for key, rows in both.items()}


def store_texts(
    prompts: Sequence[str], encoder: TextEncoder, out: str | Path, *, dtype: str = "float32", progress: bool = False
) -> StoredText:
    """Encode texts, the empty one too, into a folder for `StoredText`; text.json comes last, and says that all is there.

    Args:
        prompts: texts; those that come again are encoded once.
        encoder: what encodes them.
        out: the folder; must not hold texts.
        dtype: of the numbers: float32, or float16, half the room and no longer the encoder's own bits.
        progress: show a bar.

    Raises:
        ValueError: for a folder that holds texts, another dtype, and numbers that are not finite.
    """
    if dtype not in ("float32", "float16"):
        raise ValueError(f"dtype is {dtype!r}; allowed: 'float32', 'float16'")
    final = Path(out)
    if (final / TEXTS).is_file():
        raise ValueError(f"out is {str(final)!r}, which holds texts already; give another folder")
    each = list(dict.fromkeys(["", *prompts]))
    final.mkdir(parents=True, exist_ok=True)
    writers: dict[str, NpyWriter] = {}
    try:
        with progress_bar(len(each), 0, "texts", progress, unit="text") as bar:
            for first in range(0, len(each), _ROUND):
                made = encoder.encode(each[first : first + _ROUND])
                for key, rows in made.items():
                    own = rows.cpu().to(getattr(torch, dtype)) if rows.is_floating_point() else rows.cpu()
                    if own.is_floating_point() and not bool(torch.isfinite(own).all()):
                        raise ValueError(f"{key} of texts is not finite with dtype {dtype}; use float32")
                    if key not in writers:
                        writers[key] = NpyWriter(
                            final / f"{key}.npy", own.numpy().dtype, (len(each), *own.shape[1:])
                        ).__enter__()
                    writers[key].put(first, own.numpy())
                bar.update(min(_ROUND, len(each) - first))
        for writer in writers.values():
            writer.sync()
    finally:
        for writer in writers.values():
            writer.__exit__(None, None, None)
    replace_text(final / _PROMPTS, json.dumps(each, ensure_ascii=False))
    names = [_PROMPTS, *(f"{key}.npy" for key in writers)]
    about = {
        "format": _FORMAT, "encoder": describe(encoder), "keys": list(writers), "dtype": dtype, "number": len(each),
        "files": {name: file_hash(final / name) for name in names},
    }  # fmt: skip
    replace_text(final / TEXTS, json.dumps(about, indent=1))
    return StoredText(os.fspath(final))
