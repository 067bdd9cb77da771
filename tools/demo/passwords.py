"""Who may look: users and passwords, demanded wherever others than this machine can reach the page."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ["LEAST", "NAME", "Passwords", "read_passwords"]

LEAST = 8
"""Characters of a password."""

NAME = "SFUMATO_DEMO_AUTH"
"""The environment variable that holds them, where no file is named."""


class Passwords:
    """Users with their passwords; none: everybody may.

    Args:
        users: password by user.
    """

    def __init__(self, users: Mapping[str, str]) -> None:
        self._known = [_digest(f"{user}:{password}".encode()) for user, password in users.items()]

    def __bool__(self) -> bool:
        return bool(self._known)

    def __repr__(self) -> str:
        return f"Passwords({len(self._known)} users)"

    def admits(self, header: str | None) -> bool:
        """Whether an Authorization header (RFC 7617, Basic) is one of a user's; how long that takes tells nothing of where they differ."""
        scheme, _, given = (header or "").partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            said = base64.b64decode(given.strip(), validate=True)
        except (binascii.Error, ValueError):
            return False
        # all are compared, and all are as long, so that it is not told either whose it is
        return sum(hmac.compare_digest(_digest(said), known) for known in self._known) > 0


def _digest(said: bytes) -> bytes:
    return hashlib.sha256(said).digest()


def read_passwords(file: str | None) -> Passwords:
    """Those of a file, or of the environment.

    Args:
        file: with a user:password per line; None: what the environment says.

    Raises:
        ValueError: for a file that can't be read, and lines that are none; no password is ever named.
    """
    if file is None:
        text, where = os.environ.get(NAME, ""), NAME
    else:
        where = f"auth, the file {file!r},"
        try:
            text = Path(file).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "no text"
            raise ValueError(f"{where} can't be read: {reason}; give a file with a user:password per line") from error
    users: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        user, colon, password = line.strip().partition(":")
        if not colon or not user:
            raise ValueError(
                f"{where} line {number} is no user:password; write one per line, such as anna:a-long-password"
            )
        if len(password) < LEAST:
            raise ValueError(
                f"{where} line {number}: the password of {user!r} has {len(password)} characters; allowed: {LEAST} and more"
            )
        if user in users:
            raise ValueError(f"{where} line {number}: {user!r} is there twice; give each user one line")
        users[user] = password
    if file is not None and not users:
        raise ValueError(f"{where} is empty; give a file with a user:password per line")
    return Passwords(users)
