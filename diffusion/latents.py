"""Latents that `sfumato encode` wrote."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .data import Batch, Source
from .npy import gather, open_npy, read_labels
from .subset import Subset
from .vae import Vae
from .whole_file import file_hash

__all__ = [
    "ABOUT",
    "FORMAT",
    "LABELS",
    "LOG_VARIANCE",
    "MEAN",
    "LatentArray",
    "check_vae",
    "latents_of",
    "vae_of_latents",
]

FORMAT = 1
ABOUT, MEAN, LOG_VARIANCE, LABELS = "latents.json", "mean.npy", "log_variance.npy", "labels.npy"
CAPTIONS = "captions.json"


@dataclass(frozen=True)
class LatentArray:
    """A VAE's latents of a data set: x = (mean - shift) * scaling, and how far the posterior spreads around it.

    With a spread the trainer draws another sample of the posterior whenever it comes by, by address. The fingerprint is that of the
    files' hashes, as `sfumato encode` wrote them down.

    Args:
        folder: what `sfumato encode` wrote.
        sample: tell the spread, where the VAE has one; false: train on the posterior's mean.
        verify: compare the files with their hashes when they are first read (a pass over them).

    Raises:
        ValueError: for a folder that is not complete, or of a newer format, and, when read, for a file that is not the one that was
            written.
    """

    folder: str
    sample: bool = True
    verify: bool = True

    def __post_init__(self) -> None:
        _ = self._mean, self._log_variance, self._labels

    def __getstate__(self) -> dict[str, Any]:
        """Copied and sent to other processes as what was said, not as what is in the files."""
        return {f.name: self.__dict__[f.name] for f in fields(self)}

    @cached_property
    def about(self) -> dict[str, Any]:
        """What `latents.json` says: the VAE, shift and scaling, statistics, the data's fingerprint, files and their hashes."""
        file = Path(self.folder) / ABOUT
        says = f"LatentArray.folder is {self.folder!r}"
        try:
            about = json.loads(file.read_text())
            if about["format"] > FORMAT:
                raise ValueError(
                    f"{says}, of format {about['format']}; this version reads up to {FORMAT}: use the Sfumato that wrote it"
                )
            for key in ("number", "shape", "num_classes", "shift", "scaling"):
                about[key]
            for name, known in about["files"].items():
                if name not in (MEAN, LOG_VARIANCE, LABELS, CAPTIONS) or not isinstance(known["sha256"], str):
                    raise ValueError(f"{says}, whose {ABOUT} names a file {name!r} that latents don't have")
        except OSError as error:
            raise ValueError(
                f"{says}, which holds no {ABOUT}: {error.strerror or error}; give a folder that `sfumato encode` finished"
            ) from error
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{says}, whose {ABOUT} is damaged: {type(error).__name__}: {error}; encode again"
            ) from error
        return about

    def _open(self, name: str) -> np.memmap | None:
        files = self.about["files"]
        if name != MEAN and name not in files:
            return None
        rows = open_npy(Path(self.folder) / name, f"LatentArray.folder: {name}", ("float16", "float32"))
        wanted = (self.about["number"], *self.about["shape"])
        if rows.shape != wanted:
            raise ValueError(f"LatentArray.folder is {self.folder!r}, whose {name} is {rows.shape}, not {wanted}")
        return rows

    @cached_property
    def _mean(self) -> np.memmap:
        found = self._open(MEAN)
        assert found is not None
        return found

    @cached_property
    def _log_variance(self) -> np.memmap | None:
        return self._open(LOG_VARIANCE)

    @cached_property
    def _labels(self) -> np.ndarray | None:
        if LABELS not in self.about["files"]:
            return None
        path = Path(self.folder) / LABELS
        return read_labels(path, f"LatentArray.folder: {LABELS}", self.about["number"], self.about["num_classes"])

    @cached_property
    def _captions(self) -> list[tuple[str, ...]] | None:
        """The captions of each sample; of mirrored ones, those of what was mirrored."""
        if CAPTIONS not in self.about["files"]:
            return None
        path = Path(self.folder) / CAPTIONS
        try:
            found = [tuple(each) for each in json.loads(path.read_text(encoding="utf-8"))]
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(f"{path} can't be read: {error}; encode again") from error
        if not found or self.about["number"] % len(found):
            raise ValueError(f"{path} has captions of {len(found)} samples for {self.about['number']}; encode again")
        return found

    def texts(self, index: Tensor) -> Sequence[tuple[str, ...]] | None:
        """The captions of some samples; None where the data had none."""
        captions = self._captions
        return None if captions is None else [captions[i % len(captions)] for i in index.tolist()]

    @cached_property
    def _verified(self) -> bool:
        for name, known in self.about["files"].items():
            if file_hash(Path(self.folder) / name) != known["sha256"]:
                raise ValueError(f"{Path(self.folder) / name} is not the file that was encoded; encode again")
        return True

    def __len__(self) -> int:
        return len(self._mean)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._mean.shape[1:]

    @property
    def num_classes(self) -> int:
        return int(self.about["num_classes"])

    @property
    def fingerprint(self) -> str:
        told = {key: self.about[key] for key in ("files", "shift", "scaling")}
        return hashlib.sha256(json.dumps([told, self.sample], sort_keys=True).encode()).hexdigest()[:16]

    def batch(self, index: Tensor) -> Batch:
        _ = self.verify and self._verified
        mean = torch.from_numpy(gather(self._mean, index)).float()
        shift, scaling = (self._column(name) for name in ("shift", "scaling"))
        spread = None
        if self.sample and self._log_variance is not None:
            spread = torch.from_numpy(gather(self._log_variance, index)).float().mul_(0.5).exp_().mul_(scaling)
        labels = None if self._labels is None else torch.from_numpy(self._labels[index.cpu().numpy()])
        return Batch(mean.sub_(shift).mul_(scaling), labels, spread)

    def _column(self, name: str) -> Tensor:
        return torch.tensor(self.about[name], dtype=torch.float32).view(-1, *[1] * (len(self.shape) - 1))

    def problem(self, index: int) -> str | None:
        """What is wrong with a sample, for a scan before training; None: nothing."""
        for name, rows in ((MEAN, self._mean), (LOG_VARIANCE, self._log_variance)):
            if rows is not None and not np.isfinite(rows[index]).all():
                return f"sample {index} of {Path(self.folder) / name} holds numbers that are not finite"
        return None


def latents_of(data: Source) -> dict[str, Any] | None:
    """What a run keeps of the latents that it is trained on: the VAE that made them, shift and scaling; None where the data are no latents.

    Args:
        data: of the run; what is around latents is looked through.
    """
    if isinstance(data, Subset):
        return latents_of(data.source)
    if not isinstance(data, LatentArray):
        return None
    return {key: data.about[key] for key in ("vae", "shift", "scaling")}


def check_vae(vae: Vae, latents: Mapping[str, Any]) -> None:
    """Refuse a VAE that is not the one that made the latents.

    Args:
        vae: what is to make pictures of them.
        latents: as `latents_of` said.

    Raises:
        ValueError: naming both.
    """
    own, made = vae.describe(), latents["vae"]
    other = [key for key in ("class", "config", "weights") if own[key] != made[key]]
    if other:
        raise ValueError(
            f"{vae.says}, of which {' and '.join(other)} are not those of the VAE that made the latents, {made['folder']} "
            f"({made['class']}, weights {made['weights'][:16]}); give the folder of that one"
        )


def vae_of_latents(folder: str | Path, data: Source, device: str = "cpu") -> Vae:
    """The VAE that made the latents of a data set.

    Args:
        folder: of diffusers.
        data: the latents.
        device: where to put it.

    Raises:
        ValueError: for data that are no latents, and another VAE than theirs.
    """
    about = latents_of(data)
    if about is None:
        raise ValueError(f"vae is {str(folder)!r}, but the data are no latents; leave vae out")
    vae = Vae(folder, device)
    check_vae(vae, about)
    return vae
