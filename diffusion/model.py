"""A trained model and how to sample from it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from ..guidance import Field, Guidance, Plain
from ..guidance.tree import Tree
from ..samplers import DPMSolverPP, Sampler, on_path, tabulate
from ..samplers.filters import Filter, Judged, Sampling
from ..samplers.filters.pictures import check_for
from ..samplers.refill import Finished, Glimpse, fill
from ..schedules import Grid, Trailing, check_seeds
from ..schedules.noise import Seeds
from ..schedules.parts import describe
from .asked import all_or_none, ask_first
from .branches import Weak, branches_of, on_its_path
from .chunked import Chunked
from .conditions import Labels, conditions, label_lists
from .denoiser import Denoiser
from .filtered import Record, filter_names
from .fingerprint import fingerprint
from .picture_folder import Job, PictureFolder
from .progress import progress_bar
from .prompts import Decoded, Decoder, Prompts, TextEncoder, prompt_conditions, prompt_lists
from .samples import Samples, empty, own_settings
from .warned import Diverged

__all__ = ["Model"]

# root mean square of a picture beyond which sampling went astray; no picture in [-1, 1] is above 1
FAR = 10.0


@dataclass
class Model:
    """A denoiser, and how it is sampled from unless told otherwise.

    Args:
        denoiser: the model.
        shape: (C, H, W) of a sample.
        num_classes: its classes; 0: unconditional. The null class is number num_classes.
        null_class: whether the null class, or the empty text, was trained (labels were dropped); without it there is nothing to guide
            away from.
        sampler, grid, steps, guidance: the defaults of `sample`.
        source: which run and step this is, for the settings in pictures.
        text: what turns prompts into the network's condition; None: it knows no texts.
        latents: whether samples are latents, of any size, rather than pictures in [-1, 1].
        vae: what turns them into pictures; None: samples are handed out as they are.
    """

    denoiser: Denoiser
    shape: tuple[int, ...]
    num_classes: int = 0
    sampler: Sampler = field(default_factory=DPMSolverPP)
    grid: Grid = field(default_factory=Trailing)
    steps: int = 20
    guidance: Guidance = field(default_factory=Plain)
    source: dict[str, Any] = field(default_factory=dict)
    null_class: bool = True
    text: TextEncoder | None = None
    latents: bool = False
    vae: Decoder | None = None

    def __post_init__(self) -> None:
        if self.text is not None and self.num_classes:
            raise ValueError(
                f"num_classes is {self.num_classes} and text is given; allowed: a model of classes, or of texts"
            )
        if self.vae is not None and not self.latents:
            raise ValueError("vae is given, but latents is False: these samples are pictures; leave vae out")

    @property
    def picture_shape(self) -> tuple[int, ...]:
        """(C, H, W) of what `sample` hands out."""
        return tuple(self.shape) if self.vae is None else self.vae.picture_shape(self.shape)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.denoiser.parameters()).device

    @property
    def _why_no_ref(self) -> str:
        if self.text is not None and not self.null_class:
            return (
                "was trained with label_dropout 0, so it knows no empty text; use guidance Plain, or steer away from another text "
                "(against: negative)"
            )
        if self.num_classes == 0:
            return "was trained without classes; use guidance Plain"
        if not self.null_class:
            return (
                "was trained with label_dropout 0, so it knows no null class; use guidance Plain, or steer away from another class "
                "(against: negative)"
            )
        return ""

    def conditions(
        self, labels: Labels | None, count: int, also: Mapping[str, Labels | Prompts | int | None] | None = None,
        prompts: Prompts | None = None,
    ) -> dict[str, Tree]:  # fmt: skip
        """The condition of each branch: "cond", "ref" (the null class, the empty text) for a model that knows it, and those of `also`.

        Args:
            labels: one per slot, each 0..num_classes-1, or None for the null class; None: all the null class.
            count: number of slots.
            also: likewise, of further branches by name; one number, or one text, is for all slots.
            prompts: of a model that knows texts: one per slot, or one for all; None: the empty text.

        Raises:
            ValueError: for labels out of range, too few or too many, or of a model without classes; for texts likewise.
        """
        return self._conditions(self._lists(labels, prompts, also, count))

    def _lists(
        self, labels: Labels | None, prompts: Prompts | None, also: Mapping[str, Any] | None, count: int
    ) -> dict[str, list[Any]]:
        """What each branch is told, one per slot."""
        if self.text is None:
            if prompts is not None:
                told = (
                    f"classes; give labels, 0 to {self.num_classes - 1}" if self.num_classes else "no condition at all"
                )
                raise ValueError(f"prompts were given, but this model knows no texts, it knows {told}")
            return label_lists(labels, also, count, self.num_classes)
        if labels is not None:
            raise ValueError("labels were given, but this model knows texts, not classes; give prompts")
        return prompt_lists(prompts, also, count)

    def _conditions(self, lists: Mapping[str, list[Any]]) -> dict[str, Tree]:
        if self.text is None:
            return conditions(lists, self.num_classes, self.null_class, self.device)
        return prompt_conditions(lists, self.text, self.null_class, self.device)

    @torch.no_grad()
    def sample(
        self, seeds: Seeds, labels: Labels | None = None, *,
        prompts: Prompts | None = None, also: Mapping[str, Labels | Prompts | int | None] | None = None,
        weak: Model | Denoiser | None = None, steps: int | None = None, sampler: Sampler | None = None, grid: Grid | None = None,
        guidance: Guidance | None = None, filters: Sequence[Filter] = (), retries: int = 8, batch: int = 64,
        strict: bool = False, brownian: bool = False, progress: bool = False, mark: bool = False,
        folder: PictureFolder | None = None, watch: Callable[[Glimpse], object] | None = None,
    ) -> Samples:  # fmt: skip
        """Pictures, one per seed; picture i depends on its seed and label only, not on what is sampled beside it.

        Args:
            seeds: whole numbers in [0, 2^63).
            labels: one per seed, 0..num_classes-1 or None.
            prompts: of a model that knows texts: one per seed, or one for all.
            also: labels or texts of further branches by name, for rules that ask for them: {"negative": 7} for CFG(3, against="negative"),
                {"second": [...]} for Mix({"cond": 2, "second": 1.5}). One per seed, or one for all.
            weak: a weaker network, for Autoguidance: the branch "weak", under the same labels. It may be of another path.
            steps, sampler, grid, guidance: None: the model's own.
            filters: a picture that one of them rejects is tried again, so that every slot ends with one that all of them keep.
            retries: how often, >= 0; a slot that runs out holds no picture (see `kept`), and a warning says how much was rejected.
            batch: pictures at a time, >= 1.
            strict: always the same batch shape for the network, so that a picture is the same to the last bit in any batch.
                Without it networks round differently for other batch shapes, by about 1e-6.
            brownian: a stochastic sampler follows one Brownian motion per attempt, so that its pictures converge as steps are added;
                without it every number of steps draws noise of its own.
            progress: show a bar.
            mark: nothing is tried again: rejected pictures stay, and `kept`, `scores` and `reasons` say which they are.
            folder: holds each picture as soon as it is finished; those that it knows already are read from it.
            watch: shown every step, for previews; an exception in it ends the work at once, which is how to stop.

        Raises:
            ValueError: for values out of range, what a filter refuses (a threshold of another model), and a folder of other pictures.
            PairingError: where the grid asks the network at a level that its row, or a rule's space, says nothing about.
            FloatingPointError: when the network returns numbers that are not finite.
        """
        for name, value, wanted in (
            ("sampler", sampler, Sampler),
            ("grid", grid, Grid),
            ("guidance", guidance, Guidance),
        ):
            _check_part(name, value, wanted)
        filters = [filters] if isinstance(filters, Filter) else list(filters)
        for f in filters:
            _check_part("filters", f, Filter)
        steps, sampler = self.steps if steps is None else steps, self.sampler if sampler is None else sampler
        grid, guidance = self.grid if grid is None else grid, self.guidance if guidance is None else guidance
        seed = check_seeds(seeds)
        if len(seed) == 0:
            raise ValueError("seeds is empty; give one seed per picture, such as seeds=range(16)")
        lists = self._lists(labels, prompts, also, len(seed))
        by_branch = self._conditions(lists)
        other = None if weak is None else _weak(weak)
        network = None
        if other is not None:
            other.fits(self.shape, self.num_classes, self.device, None in lists.get("cond", []))
            network = on_its_path(
                Chunked(other.denoiser, batch, True) if strict else other.denoiser, self.denoiser.schedule
            )
        levels = grid(self.denoiser.schedule, steps)
        walker = on_path(sampler, self.denoiser.schedule)
        device, names = self.device, (*by_branch, *([] if weak is None else ["weak"]))
        table = tabulate(walker, levels)
        self.denoiser.check(table.asked)
        ask_first(
            guidance, names, table, sampler, self.shape, len(seed), self.denoiser, None if other is None else other.denoiser,
            self._why_no_ref, by_branch.get("ref", 0) is by_branch["cond"],
        )  # fmt: skip
        watching = on_path(tuple(self._showing(f) for f in filters), self.denoiser.schedule)
        check_for(watching, Sampling(
            repr(sampler), repr(guidance), levels, lambda: fingerprint(self.denoiser), _told(lists),
        ))  # fmt: skip
        main = Chunked(self.denoiser, batch, True) if strict else self.denoiser
        scale = levels[-1].alpha  # a path with scaled data ends at x = alpha x0

        sizes: list[Tensor] = []

        def finish(x: Tensor) -> Tensor:
            if self.latents:  # which have no range
                return x
            sizes.append((x / scale).flatten(1).square().mean(1).sqrt().cpu())
            # what is not finite stays so, and is found below
            return torch.where(torch.isfinite(x), (x / scale).clamp(-1, 1) * scale, x)

        def denoise_for(slots: Tensor) -> Field:
            branches = branches_of(main, network, by_branch, slots)
            return Field(branches, guidance, len(slots), slots, len(seed))

        settings = {
            "version": _version(), **self.source, "steps": steps, "sampler": describe(sampler), "grid": describe(grid),
            "guidance": describe(guidance), "schedule": describe(self.denoiser.schedule), "row": describe(self.denoiser.row),
            "filters": describe(list(filters)), "mark": mark, "strict": strict, "brownian": brownian, "batch": batch, "device": str(device),
            "null_class": self.num_classes if self.num_classes else None,
            "also": None if not also else {name: lists[name] for name in also},
            "weak": None if other is None else other.settings(),
        }  # fmt: skip
        used = by_branch["cond"]["labels"].cpu() if self.num_classes else None
        words = None if self.text is None else tuple(lists["cond"])
        own = own_settings(len(seed), {name: lists[name] for name in also or {}}, guidance, sampler, words)
        shape = self.picture_shape
        if folder is not None:
            folder.begin(Job(settings, own, seed, used, names, filter_names(filters), float(scale), shape, device))
        stored: list[Finished] = []

        def known(work: Sequence[tuple[int, int]]) -> Finished | None:
            found = None if folder is None else folder.known(work)
            stored[:] = [] if found is None else [found]
            return found

        images = empty(len(seed), shape, device)
        attempts, kept = torch.zeros_like(seed), torch.zeros(len(seed), dtype=torch.bool)
        spent = torch.zeros(len(seed), len(names), dtype=torch.int64)
        scores, record = tuple(torch.full((len(seed),), math.nan) for _ in filters), Record(filters)
        far: list[int] = []
        networks = [self.denoiser, *([] if other is None else [other.denoiser])]
        training = [network.training for network in networks]
        for each in networks:
            each.eval()
        bar = progress_bar(len(seed) * steps, 0, "sampling", progress, leave=False)
        try:
            for done in fill(
                walker, denoise_for, levels, seed, self.shape, filters=watching, retries=min(retries, 0) if mark else retries, batch=batch,
                strict=strict, brownian=brownian, device=device, on_step=lambda moved: bar.update(moved), finish=finish,
                known=known, watch=watch,
            ):  # fmt: skip
                finite = torch.isfinite(done.x).flatten(1).all(1).cpu()
                if not bool(finite.all()):
                    bad = seed[done.slots[~finite]].tolist()
                    raise FloatingPointError(
                        f"sampling returned numbers that are not finite for seed(s) {bad[:8]}: the weights hold nan, or {sampler} "
                        f"diverged in {steps} steps under {guidance}"
                    )
                spent[done.slots] += done.evaluations
                attempts[done.slots] = done.attempts
                kept[done.slots] = done.keep
                made = self._pictures(done.x / scale, any(done is one for one in stored))
                if not bool(torch.isfinite(made).all()):
                    bad = seed[done.slots[~torch.isfinite(made).flatten(1).all(1).cpu()]].tolist()
                    raise FloatingPointError(
                        f"the VAE makes pictures that are not finite of the latents of seed(s) {bad[:8]}: its numbers overflow, or its "
                        "scaling is 0; give it in fp32"
                    )
                shown = done.keep | mark
                images[done.slots[shown].to(device)] = made[shown.to(device)]
                record.add(done, made)
                for score, verdict in zip(scores, done.verdicts, strict=True):
                    score[done.slots] = verdict.score.float()
                if folder is not None:
                    folder.add(done, made, shown)
                if sizes:  # of a batch that was made rather than known
                    far += seed[done.slots[shown & (sizes.pop()[: len(shown)] > FAR)]].tolist()
        finally:
            bar.close()
            for each, before in zip(networks, training, strict=True):
                each.train(before)
        filtered = record.result()
        if far:
            warnings.warn(Diverged(far, len(seed), f"{sampler} in {steps} steps under {guidance}"), stacklevel=3)
        filtered.warn(
            0 if mark else int((~kept).sum()), len(seed), retries, stacklevel=3
        )  # who called, through no_grad
        return Samples(images, seed, used, attempts, kept, spent, names, scores, settings, own, filtered, words)

    def _showing(self, f: Filter) -> Filter:
        """A filter, of which a judge of pictures is shown what the decoder makes of latents."""
        return replace(f, judge=Decoded(f.judge, self.vae)) if isinstance(f, Judged) and self.vae is not None else f

    def _pictures(self, x: Tensor, stored: bool) -> Tensor:
        """What is handed out for samples; `stored`: they were read from files, as pictures."""
        if self.latents and not stored:
            # one by one: a picture does not depend on those beside it, and memory holds no batch of large activations
            return x if self.vae is None else torch.cat([self.vae.decode(one) for one in x.split(1)]).to(x)
        return x if self.latents and self.vae is None else x.clamp(-1, 1)


@cache
def _version() -> str:
    """Of Sfumato; found once, since all that is written about the package, its README too, is parsed for it."""
    return version("sfumato")


def _told(lists: Mapping[str, list[Any]]) -> bool | None:
    """Whether all pictures have a label, or a prompt."""
    return all_or_none(None if "cond" not in lists else [None if told == "" else told for told in lists["cond"]])


def _weak(given: Model | Denoiser) -> Weak:
    """What is known of a weaker network."""
    if isinstance(given, Model):
        return Weak(given.denoiser, given.shape, given.num_classes, given.null_class, given.source)
    if not isinstance(given, Denoiser):
        raise ValueError(f'weak is {given!r}; allowed: a Model, such as load("runs/small"), or a Denoiser')
    backbone = given.backbone
    channels, size = getattr(backbone, "channels", None), getattr(backbone, "size", None)
    shape = None if channels is None or size is None else (channels, size, size)
    return Weak(given, shape, getattr(backbone, "num_classes", None), True, {})


def _check_part(name: str, value: object, wanted: type) -> None:
    """Refuse what is no such part: a class instead of an instance, a name instead of an object."""
    if isinstance(value, type):
        raise ValueError(f"{name} is the class {value.__name__}; give an instance, {value.__name__}()")
    if value is not None and not isinstance(value, wanted):
        raise ValueError(
            f"{name} is {value!r}, which is no {wanted.__name__}; give an object, such as those of sfumato.{_HOMES[name]}"
        )


_HOMES = {"sampler": "samplers", "grid": "schedules", "guidance": "guidance", "filters": "samplers.filters"}
