"""Models that leave: as folders that diffusers loads without Sfumato, and as exported programs."""

from .program import Program, to_program
from .to_diffusers import Exported, to_diffusers

__all__ = ["Exported", "Program", "to_diffusers", "to_program"]
