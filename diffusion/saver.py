"""Saving while training goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from torch import Tensor

__all__ = ["Saver", "copied"]

Tensors = Mapping[str, Mapping[str, Tensor]]


def copied(tensors: Tensors) -> dict[str, dict[str, Tensor]]:
    """The tensors as they are now, on the host: what trains on may change them at once. Tied ones stay tied."""
    seen: dict[tuple[object, ...], Tensor] = {}

    def copy(value: Tensor) -> Tensor:
        place = (value.data_ptr(), value.shape, value.stride(), value.dtype, value.device)
        if place not in seen or value.numel() == 0:
            seen[place] = value.detach().to("cpu", copy=True)
        return seen[place]

    return {name: {key: copy(value) for key, value in values.items()} for name, values in tensors.items()}


class Saver:
    """Runs saves, one at a time, in this thread or in the background.

    Args:
        background: whether training goes on while a save is written; it then waits only for the copy of its tensors.
    """

    def __init__(self, background: bool) -> None:
        self._background = background
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def __call__(self, tensors: Tensors, write: Callable[[Tensors], None]) -> None:
        """Write a copy of the tensors as they are now, after the save before it.

        Raises:
            Exception: what the save before it, or this one where it is not in the background, has raised.
        """
        self.wait()
        if not self._background:
            write(tensors)
            return
        kept = copied(tensors)

        def run() -> None:
            try:
                write(kept)
            except Exception as error:
                self._error = error

        self._thread = threading.Thread(target=run, name="sfumato-save")
        self._thread.start()

    def failed(self) -> Exception | None:
        """What a save in the background has raised so far, without waiting for it."""
        return self._error

    def wait(self) -> None:
        """Until nothing is being written.

        Raises:
            Exception: what the save raised.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error
