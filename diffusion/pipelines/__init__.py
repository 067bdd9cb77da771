"""Models of diffusers as ours: networks, schedulers, VAEs and text encoders of its pipelines."""

from .load import load_pipeline
from .text import PipelineText

__all__ = ["PipelineText", "load_pipeline"]
