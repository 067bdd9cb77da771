"""What is around the server: an environment in which nobody is told anything, and a folder of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["surroundings"]

_OURS = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_OFFLINE": "1",
}


@contextmanager
def surroundings() -> Iterator[Path]:
    """Within, Gradio counts nothing, looks nothing up and keeps uploads in a folder that only this user reads, and that is gone afterwards.

    What the environment says of Gradio does not count meanwhile, since some of it opens what is closed here (GRADIO_SHARE,
    GRADIO_ALLOWED_PATHS, GRADIO_VIBE_MODE). It is entered before Gradio is imported, which reads some of it only then.
    """
    folder = Path(tempfile.mkdtemp(prefix="sfumato-demo-"))  # 0700
    before = {key: value for key, value in os.environ.items() if key.startswith("GRADIO_") or key in _OURS}
    try:
        for key in before:
            del os.environ[key]
        os.environ.update(_OURS, GRADIO_TEMP_DIR=str(folder))
        yield folder
    finally:
        for key in (*_OURS, "GRADIO_TEMP_DIR"):
            os.environ.pop(key, None)
        os.environ.update(before)
        shutil.rmtree(folder, ignore_errors=True)
