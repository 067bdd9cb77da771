"""Models that leave: as folders that diffusers loads without Sfumato, and as exported programs."""

from .folder import Exported, to_diffusers
from .program import Program, to_program

__all__ = ["Exported", "Program", "to_diffusers", "to_program"]
