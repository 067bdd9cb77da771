"""Who pressed the button and has not had a turn yet, so that Stop reaches those who wait."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict

__all__ = ["Tickets"]

# more than wait at a time; what browsers left behind goes first
_MOST = 4096


class Tickets:
    """One ticket per press of a button; it is handed in when work begins, unless it was called off before."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, str] = OrderedDict()
        self._off: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def draw(self, session: str) -> str:
        """A new ticket of a session."""
        ticket = secrets.token_hex(8)
        with self._lock:
            self._open[ticket] = session
            while len(self._open) > _MOST:
                self._open.popitem(last=False)
        return ticket

    def hand_in(self, ticket: str) -> bool:
        """Whether work may begin; false where it was called off. Who has no ticket may: programs press no button."""
        with self._lock:
            self._open.pop(ticket, None)
            return self._off.pop(ticket, self) is self

    def waits(self, ticket: str) -> bool:
        """Whether it was neither handed in nor called off."""
        with self._lock:
            return ticket in self._open

    def call_off(self, session: str) -> int:
        """Call off what a session waits for; returns how many pieces of work."""
        with self._lock:
            found = [ticket for ticket, owner in self._open.items() if owner == session]
            for ticket in found:
                del self._open[ticket]
                self._off[ticket] = None
            while len(self._off) > _MOST:
                self._off.popitem(last=False)
        return len(found)
