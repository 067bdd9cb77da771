"""Encoding a data set into a VAE's latents, once, so that training reads them from an array."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..schedules.parts import describe
from .data import Batch, Source
from .latent_statistics import channel_statistics
from .latents import ABOUT, CAPTIONS, FORMAT, LABELS, LOG_VARIANCE, MEAN, LatentArray
from .npy_writer import NpyWriter
from .progress import progress_bar
from .prompts import TextEncoder
from .stored_text import TEXTS, store_texts
from .texts import captioned, texts_of
from .vae import Vae
from .whole_file import file_hash, replace_text, sync

__all__ = ["TEXT", "encode"]

TEXT = "text"
"""The folder of encoded captions within one of latents."""
_PROGRESS, _PAUSE = "progress.json", 5.0


def encode(
    source: Source, vae: Vae, out: str | Path, *, batch: int = 32, dtype: Literal["float16", "float32"] = "float16",
    mirror: bool = False, text: TextEncoder | None = None, progress: bool = False,
) -> LatentArray:  # fmt: skip
    """Encode a data set into a folder of latents, which appears whole, by a rename, when all is done.

    Until then it is OUT.part. A call that was killed is made again with the same arguments and does what is missing; on a CPU the bytes are
    those of a call that ran through. Two at a time would write the same bytes.

    Args:
        source: pictures in [-1, 1].
        vae: what encodes them.
        out: the folder; must not exist, or be empty.
        batch: samples at a time, >= 1.
        dtype: of the files.
        mirror: encode every picture mirrored left to right, too, as samples N to 2N - 1, since latents can't be mirrored themselves.
        text: encodes the captions of the data, too, into the folder text in it, for `StoredText`; the captions themselves are always kept.
        progress: show a bar.

    Raises:
        ValueError: for text without captions, data that the VAE can't take or give back, a folder that is taken or was begun with other
            arguments, too little room on the disk, and latents that are not finite.
        OSError: when the disk is full or fails while writing; what is done is kept.
    """
    if batch < 1:
        raise ValueError(f"batch is {batch}; allowed: >= 1")
    if dtype not in ("float16", "float32"):
        raise ValueError(f"dtype is {dtype!r}; allowed: 'float16', 'float32'")
    final = Path(out)
    if final.exists() and (not final.is_dir() or any(final.iterdir())):
        done = "which holds latents already" if (final / ABOUT).is_file() else "which is not an empty folder"
        raise ValueError(f"out is {str(final)!r}, {done}; give another folder")
    if text is not None and not captioned(source):
        raise ValueError(
            f"text is {type(text).__name__}, but the data have no captions; leave text out, or give data.captions"
        )
    job = _Job(source, vae, batch, np.dtype(dtype), mirror, final.with_name(f"{final.name}.part"), text)
    job.run(progress)
    os.replace(job.stage, final)
    (final / _PROGRESS).unlink(missing_ok=True)  # after the rename: a kill before it must find what was begun
    sync(final.parent)
    return LatentArray(str(final))


@dataclass
class _Job:
    """One encoding, into its stage."""

    source: Source
    vae: Vae
    batch: int
    dtype: np.dtype
    mirror: bool
    stage: Path
    text: TextEncoder | None = None

    def run(self, progress: bool) -> None:
        first = self.source.batch(torch.tensor([0]))
        posterior = self.vae.encode(first.x)
        back = self.vae.decode((posterior.mean - self._wide(self.vae.shift)) * self._wide(self.vae.scaling))
        if back.shape != first.x.shape:
            raise ValueError(
                f"{self.vae.says}, and a sample of shape {tuple(first.x.shape[1:])} comes back from it as {tuple(back.shape[1:])}; crop or "
                "resize the data to what it gives back"
            )
        shape, total = tuple(posterior.mean.shape[1:]), len(self.source) * (1 + self.mirror)
        settings = {
            "format": FORMAT, "data": self.source.fingerprint, "vae": self.vae.describe(), "precision": self.vae.precision,
            "number": total, "batch": self.batch, "dtype": self.dtype.name, "mirrored": self.mirror,
            **({} if self.text is None else {"text": describe(self.text)}),
        }  # fmt: skip
        kinds: dict[str, tuple[np.dtype, tuple[int, ...]]] = {MEAN: (self.dtype, shape)}
        if posterior.log_variance is not None:
            kinds[LOG_VARIANCE] = (self.dtype, shape)
        if first.labels is not None:
            kinds[LABELS] = (np.dtype(np.int64), ())
        done = self._begun(settings)
        self._room(kinds, total)
        try:
            self.stage.mkdir(parents=True, exist_ok=True)
            with ExitStack() as stack:
                files = {
                    name: stack.enter_context(NpyWriter(self.stage / name, kind, (total, *size)))
                    for name, (kind, size) in kinds.items()
                }
                done = done if all(f.holds(done) for f in files.values()) else 0
                self._fill(files, settings, done, total, progress)
            self._texts(progress)
            self._finish(settings, sorted(files), shape)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, getattr(errno, "EDQUOT", None)):
                raise
            free = shutil.disk_usage(self.stage).free
            raise OSError(
                error.errno,
                f"the disk is full: {self.stage} will hold {_bytes(kinds, total)} bytes, and {free} are free; make room and run the same "
                "again, it goes on where it stopped",
            ) from error

    def _wide(self, value: Tensor) -> Tensor:
        return value.view(-1, *[1] * (len(self.source.shape) - 1))

    def _begun(self, settings: dict[str, Any]) -> int:
        """How many samples an earlier call has done."""
        file = self.stage / _PROGRESS
        if not file.is_file():
            return 0
        try:
            found = json.loads(file.read_text())
            other = [k for k in settings if found["settings"].get(k) != settings[k]]
            done = int(found["done"])
        except (ValueError, KeyError, TypeError, AttributeError):
            return 0
        if other:
            was = "; ".join(f"{k} was {found['settings'].get(k)}, is {settings[k]}" for k in other)
            raise ValueError(f"{self.stage} was begun with other settings: {was}. Give the same, or remove that folder")
        return done

    def _room(self, kinds: dict[str, tuple[np.dtype, tuple[int, ...]]], total: int) -> None:
        """Refuse what the disk can't hold."""
        wanted = _bytes(kinds, total)
        there = sum((self.stage / name).stat().st_size for name in kinds if (self.stage / name).is_file())
        parent = next(p for p in self.stage.absolute().parents if p.is_dir())
        free = shutil.disk_usage(parent).free
        if wanted - there > free:
            raise ValueError(
                f"out is {str(self.stage.with_suffix(''))!r}, which needs {wanted - there} bytes, and {free} are free there; make room, "
                "choose another folder, or dtype float16"
            )

    def _batches(self, done: int, total: int) -> Iterator[tuple[int, Batch]]:
        """(first row, batch) from row `done` on, the next one read while one is encoded."""

        def read(row: int) -> Batch:
            rows = torch.arange(row, min(row + self.batch, total))
            found = self.source.batch(rows % len(self.source))
            turned = (rows >= len(self.source)).view(-1, *[1] * (found.x.ndim - 1))
            return Batch(torch.where(turned, found.x.flip(-1), found.x), found.labels)

        with ThreadPoolExecutor(1) as reader:
            starts = range(done, total, self.batch)
            ahead = reader.submit(read, starts[0]) if starts else None
            for i, row in enumerate(starts):
                assert ahead is not None
                found = ahead.result()
                ahead = reader.submit(read, starts[i + 1]) if i + 1 < len(starts) else None
                yield row, found

    def _fill(
        self, files: dict[str, NpyWriter], settings: dict[str, Any], done: int, total: int, progress: bool
    ) -> None:
        def publish() -> None:
            for file in files.values():
                file.sync()  # what the progress file counts is on the disk
            replace_text(self.stage / _PROGRESS, json.dumps({"settings": settings, "done": done}, indent=1))

        last = time.monotonic()
        publish()
        try:
            with progress_bar(total, done, "encode", progress) as bar:
                for row, given in self._batches(done, total):
                    posterior = self.vae.encode(given.x)
                    for name, rows in ((MEAN, posterior.mean), (LOG_VARIANCE, posterior.log_variance)):
                        if rows is not None:
                            files[name].put(row, self._stored(rows, row))
                    if given.labels is not None:
                        files[LABELS].put(row, given.labels.numpy())
                    done = row + len(given.x)
                    bar.update(len(given.x))
                    if time.monotonic() - last > _PAUSE:
                        publish()
                        last = time.monotonic()
        finally:
            publish()

    def _stored(self, rows: Tensor, first: int) -> np.ndarray:
        with np.errstate(over="ignore"):
            found = rows.cpu().numpy().astype(self.dtype)
        finite = np.isfinite(found.reshape(len(found), -1)).all(1)
        if not finite.all():
            sample = (first + int(np.flatnonzero(~finite)[0])) % len(self.source)
            raise ValueError(
                f"the latents of sample {sample} are not finite with precision {self.vae.precision} and dtype {self.dtype.name}; use "
                "precision fp32, then dtype float32; if they still are not, look at that sample"
            )
        return found

    def _texts(self, progress: bool) -> None:
        """The captions, and what the encoder makes of them."""
        if not captioned(self.source):
            return
        captions = [
            each for first in range(0, len(self.source), self.batch)  # a source may read its pictures to say them
            for each in texts_of(self.source, torch.arange(first, min(first + self.batch, len(self.source)))) or []
        ]  # fmt: skip
        replace_text(self.stage / CAPTIONS, json.dumps(captions, ensure_ascii=False))
        if self.text is not None and not (self.stage / TEXT / TEXTS).is_file():
            every = [caption for each in captions for caption in each]
            store_texts(every, self.text, self.stage / TEXT, progress=progress)

    def _finish(self, settings: dict[str, Any], names: list[str], shape: tuple[int, ...]) -> None:
        shift, scaling = (t.expand(shape[0]).tolist() for t in (self.vae.shift, self.vae.scaling))
        names = [*names, *([CAPTIONS] if (self.stage / CAPTIONS).is_file() else [])]
        mean, std = channel_statistics(self.stage, LOG_VARIANCE in names, shift, scaling)
        about = {
            **settings, "shape": list(shape), "num_classes": self.source.num_classes if LABELS in names else 0,
            "shift": shift, "scaling": scaling, "channel_mean": mean, "channel_std": std,
            "files": {n: {"sha256": file_hash(self.stage / n), "bytes": (self.stage / n).stat().st_size} for n in names},
        }  # fmt: skip
        replace_text(self.stage / ABOUT, json.dumps(about, indent=1))
        sync(self.stage)


def _bytes(kinds: dict[str, tuple[np.dtype, tuple[int, ...]]], total: int) -> int:
    return sum(total * math.prod(size) * kind.itemsize + 128 for kind, size in kinds.values())
