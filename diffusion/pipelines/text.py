"""The text encoders of a pipeline of diffusers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

__all__ = ["Kind", "PipelineText"]

Kind = Literal["sd", "sdxl", "sd3", "flux"]
# what the pipelines pass on where nobody says
_LENGTHS = {"sd3": 256, "flux": 512}
# tokenizers that know no length say 10^30
_ENDLESS = 10**6


class PipelineText:
    """Prompts to the keyword arguments of the pipeline's network, by its own `encode_prompt`.

    Every prompt is encoded alone, so that it gives the same bits whatever is beside it, and filled to one length. For SDXL, where the
    pipeline says force_zeros_for_empty_prompt, the empty prompt is zeros, which is what its guidance steers away from.

    Args:
        pipeline: with tokenizers and text encoders.
        kind: which of its kinds.
        size: (height, width) of the pictures, pixels, which SDXL is told.
        length: tokens of T5; None: as the pipeline has it, 256 for SD3 and 512 for FLUX.

    Raises:
        ValueError: for a pipeline without text encoders, or a tokenizer without a length.
    """

    def __init__(self, pipeline: Any, kind: Kind, size: tuple[int, int], length: int | None = None) -> None:
        self.pipeline, self.kind, self.size = pipeline, kind, size
        self.length = _LENGTHS.get(kind) if length is None else length
        for name in ("tokenizer", "tokenizer_2") if kind in ("sdxl", "sd3") else ("tokenizer",):
            part = getattr(pipeline, name, None)
            if part is None and not (kind == "sdxl" and name == "tokenizer"):
                raise ValueError(f"the {type(pipeline).__name__} has no {name}; give text, an encoder of prompts")
            if part is not None and part.model_max_length > _ENDLESS:
                raise ValueError(f"{name} says no model_max_length; set it in its tokenizer_config.json, 77 for CLIP")
        for part in pipeline.components.values():
            if isinstance(part, nn.Module):
                part.eval()  # T5 has dropout

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """The condition of some prompts, batch first.

        Args:
            prompts: texts; "" is no text.
        """
        rows = [self._one(prompt) for prompt in prompts]
        return {key: torch.cat([row[key] for row in rows]) for key in rows[0]}

    def _one(self, prompt: str) -> dict[str, Tensor]:
        pipe = self.pipeline
        if self.kind == "sd":
            states, _ = pipe.encode_prompt(prompt, pipe._execution_device, 1, False)
            return {"encoder_hidden_states": states}
        if self.kind == "sdxl":
            states, _, pooled, _ = pipe.encode_prompt(prompt, do_classifier_free_guidance=False)
            if not prompt and pipe.config.force_zeros_for_empty_prompt:
                states, pooled = torch.zeros_like(states), torch.zeros_like(pooled)
            numbers = (*self.size, 0, 0, *self.size)
            time_ids = torch.tensor([numbers], dtype=torch.float32, device=states.device)
            return {"encoder_hidden_states": states, "text_embeds": pooled, "time_ids": time_ids}
        if self.kind == "sd3":
            states, _, pooled, _ = pipe.encode_prompt(
                prompt, None, None, do_classifier_free_guidance=False, max_sequence_length=self.length
            )
        else:
            states, pooled, _ = pipe.encode_prompt(prompt, max_sequence_length=self.length)
        return {"encoder_hidden_states": states, "pooled_projections": pooled}
