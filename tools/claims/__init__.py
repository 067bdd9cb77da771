"""What papers promise, measured again at small scale; the results of this version lie beside the code as JSON."""

from .main import CLAIMS, Claims, run

__all__ = ["CLAIMS", "Claims", "run"]
