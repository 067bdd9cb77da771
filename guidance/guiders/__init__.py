"""Our rules as the guider of a modular pipeline of diffusers, which asks the network itself, one branch after the other."""

from .as_guider import as_guider

__all__ = ["as_guider"]
