"""Errors as a visitor sees them: a user's mistake in its own words, everything else without a word of the machine."""

from __future__ import annotations

import functools
import inspect
import re
import sys
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

import gradio as gr

__all__ = ["readable", "told"]

F = TypeVar("F", bound=Callable[..., Any])

# a path with at least one folder, and what names a place in code
_PATH = re.compile(r"(?:[A-Za-z]:)?(?:\.{0,2}/[^\s'\",;:()\[\]]+)+/?|\\\\[^\s'\",;]+|File \"[^\"]*\"")


def readable(error: BaseException) -> str:
    """A message without paths: of each that is in it the last name stays.

    Args:
        error: of which `str` is taken.
    """
    return _PATH.sub(lambda found: found[0].rstrip("/").rpartition("/")[2] or "…", str(error))


def told(handler: F) -> F:
    """A handler whose errors are readable: mistakes by their message, anything else logged on the server and named nowhere else."""

    def refused(error: Exception) -> gr.Error:
        if isinstance(error, gr.Error):
            return error
        if isinstance(error, ValueError | FloatingPointError):
            return gr.Error(readable(error), title="That can't be done", duration=None, print_exception=False)
        traceback.print_exception(error, file=sys.stderr)
        return gr.Error(
            "The server failed at this, and its log says where. The settings are still here; change them, or try again.",
            title="Something broke", print_exception=False,
        )  # fmt: skip

    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def stream(*given: Any) -> Any:
            try:
                yield from handler(*given)
            except Exception as error:
                raise refused(error) from None

        return stream  # pyright: ignore[reportReturnType]

    @functools.wraps(handler)
    def once(*given: Any) -> Any:
        try:
            return handler(*given)
        except Exception as error:
            raise refused(error) from None

    return once  # pyright: ignore[reportReturnType]
