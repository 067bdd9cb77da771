"""`sfumato demo`: one page in the browser, on real models."""

from .main import run

__all__ = ["run"]
