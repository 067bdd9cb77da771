"""Errors as a visitor sees them: a user's mistake in its own words, everything else without a word of the machine."""

from __future__ import annotations

import functools
import html
import inspect
import re
import sys
import traceback
from collections.abc import Callable
from contextlib import closing
from typing import Any, TypeVar

import gradio as gr
import torch

__all__ = ["readable", "sendable", "told"]

F = TypeVar("F", bound=Callable[..., Any])

_LONGEST = 1500

_NAME = r"[^\s'\"`,;:()\[\]{}<>|/\\]+"
_ROOT = r"(?:~\w*[/\\]|\.{1,2}[/\\]|[A-Za-z]:[/\\]|\\\\|/)"
# a path in quotes may have blanks in it
_QUOTED = re.compile(rf"(?P<quote>['\"`])(?:file://)?{_ROOT}[^'\"`\n]*(?P=quote)")
# one without quotes begins after a blank or a bracket; blanks belong to it where another slash follows at once: /home/my name/x
_BARE = re.compile(
    rf"(?<![\w)\].'\"`/\\:~<])(?:file://+|{_ROOT})(?:{_NAME}[/\\]*)+(?:(?: (?![~.])[^\s'\"`,;:()\[\]/\\]+){{1,3}}[/\\](?:{_NAME}[/\\]*)+)*"
)
# no file's name has more than 255 signs, and without that bound a long word is read from each of its signs anew
# a path from here: three names and more, or two of which the last is a file; and/or, image/png, 1/2 are none
_RELATIVE = re.compile(
    rf"(?<![\w./\\:])[A-Za-z_][\w.-]{{0,255}}(?:(?:[/\\]{_NAME}){{2,}}|[/\\]{_NAME}\.(?:json|ya?ml|safetensors|png|npy|txt|py|bin|pt|ckpt))(?![\w(])"
)
_ADDRESS = re.compile(r"\b(?!file:)[a-z][a-z0-9+.-]{0,30}://[^\s'\"<>]+")


def readable(error: BaseException) -> str:
    """A message without paths: of each that is in it the last name stays. Addresses of pages, class paths and fractions stay.

    Args:
        error: of which `str` is taken.
    """
    try:
        text = str(error)
    except Exception:  # whose message can't be made, such as of a number that is too long to be written
        text = type(error).__name__
    text = text[: 4 * _LONGEST].encode("utf-8", "replace").decode()
    parts, end = [], 0
    for address in _ADDRESS.finditer(text):
        parts += [_pathless(text[end : address.start()]), address[0]]
        end = address.end()
    text = "".join([*parts, _pathless(text[end:])])
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


def _pathless(text: str) -> str:
    text = _QUOTED.sub(lambda found: f"{found['quote']}{_last(found[0][1:-1])}{found['quote']}", text)
    text = _BARE.sub(lambda found: _last(found[0]), text)
    return _RELATIVE.sub(lambda found: _last(found[0]), text)


def _last(path: str) -> str:
    name = re.split(r"[/\\]", path.rstrip("/\\"))[-1]
    return "…" if name in ("", ".", "..", "~") or name.endswith(":") else name


def sendable(value: Any) -> Any:
    """What a handler says, without halves of characters, which JSON can hold, as in a picture's settings, and no answer can."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-8", "replace").decode()
    elif type(value) in (list, tuple):
        return type(value)(sendable(each) for each in value)
    elif type(value) is dict:
        return {sendable(key): sendable(each) for key, each in value.items()}
    return value


def told(handler: F) -> F:
    """A handler whose errors are readable: mistakes by their message, anything else logged on the server and named nowhere else."""

    def refused(error: Exception) -> gr.Error:
        if isinstance(error, gr.Error):
            return error
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            return gr.Error(
                "The server has not enough memory for this: take fewer pictures at once, or smaller ones.",
                title="Too large", duration=8, print_exception=False,
            )  # fmt: skip
        if isinstance(error, ValueError | FloatingPointError):
            # a page shows it as HTML
            said = html.escape(readable(error), quote=False)
            return gr.Error(said, title="That can't be done", duration=8, print_exception=False)
        traceback.print_exception(error, file=sys.stderr)
        return gr.Error(
            "The server failed at this, and its log says where. The settings are still here; change them, or try again.",
            title="Something broke", print_exception=False,
        )  # fmt: skip

    # what is no Exception is no failure: a visitor who went away, or a server that is told to end
    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def stream(*given: Any) -> Any:
            try:
                with closing(handler(*given)) as said:
                    for each in said:
                        yield sendable(each)
            except Exception as error:
                raise refused(error) from None

        return stream  # pyright: ignore[reportReturnType]

    @functools.wraps(handler)
    def once(*given: Any) -> Any:
        try:
            return sendable(handler(*given))
        except Exception as error:
            raise refused(error) from None

    return once  # pyright: ignore[reportReturnType]
