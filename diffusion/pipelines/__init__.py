"""Models of diffusers as ours: networks, schedulers, VAEs and text encoders of its pipelines."""

from .load import load_pipeline
from .parts import check_folder
from .text import PipelineText

__all__ = ["PipelineText", "check_folder", "load_pipeline"]
