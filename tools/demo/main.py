"""`sfumato demo`."""

from __future__ import annotations

import importlib.util
import json
import sys
import webbrowser
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..arguments import split
from ..command import flags_of, help_text, parse
from ..stopping import Stopped, stopping
from .options import Demo, is_loopback
from .passwords import read_passwords
from .surroundings import surroundings

if TYPE_CHECKING:
    from .shelf import Entry

__all__ = ["Demo", "run"]


def run(argv: Sequence[str]) -> int:
    """The command."""
    if "--help" in argv or "-h" in argv:
        print(help_text("sfumato demo [MODEL ...] [--port 7860] [--open] ...", Demo, None, argv))
        return 0
    options: Demo = parse(_gathered(argv), Demo, ("run",))[0]
    if importlib.util.find_spec("gradio") is None:
        raise ValueError("the page is made with gradio, which is not installed; pip install 'sfumato[demo]'")
    try:
        with stopping():
            _serve(options)
    except Stopped as stopped:
        print(f"sfumato demo: {stopped}; nothing is served any more", file=sys.stderr)
        return stopped.code
    return 1  # the server ended by itself


def _gathered(argv: Sequence[str]) -> list[str]:
    """The words with all models said as one list, since any number of them may stand without a name."""
    words, pairs = split(argv, flags_of(Demo))
    named = [value for key, value in pairs if key == "run"]
    rest = [
        f"--{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in pairs if key != "run"
    ]
    models = [*words, *named]
    if not models:
        return rest
    # JSON is YAML, so that a name with a comma or a bracket in it stays one
    return [f"--run={json.dumps(models)}", *rest]


def _serve(options: Demo) -> None:
    passwords = read_passwords(options.auth)
    from .find import unplaced
    from .serving import check_open, listening, serving, url_of

    check_open(options.host, passwords)
    entries = _offered(options)
    if not is_loopback(options.host):
        entries = [unplaced(entry) for entry in entries]
    with surroundings() as folder:
        import torch

        from .app import build_app
        from .running import Running
        from .shelf import Shelf

        if options.threads is not None:
            torch.set_num_threads(options.threads)
        sock = listening(options.host, options.port)
        running, limits = Running(), options.limits()
        if not options.run:
            limits = replace(limits, train=options.root)
        page = build_app(Shelf(entries), limits, running)
        with serving(page, sock, options.host, folder, limits, passwords, running) as server:
            url = url_of(options.host, sock.getsockname()[1])
            for entry in entries:
                print(f"offered: {entry.name}  {entry.home}")
            if not entries:
                print(f"offered: nothing yet, there is no run in {options.root!r}; the page trains one in a minute")
            reach = (
                "this machine only"
                if is_loopback(options.host)
                else "everybody who reaches this machine and has a password"
            )
            print(f"{url}  ({reach}; Ctrl-C ends it)", flush=True)
            if options.open:
                webbrowser.open(url)
            while server.is_alive():
                server.join(0.5)


def _offered(options: Demo) -> list[Entry]:
    """The models, each looked at before anything is served.

    Raises:
        ValueError: for what is none.
    """
    from .find import entry_of, find_models

    if options.run:
        return [
            entry_of(
                path, device=options.device, allow=options.allow, vae=options.vae, text=options.text, scheduler=options.scheduler,
                size=options.size, precision=options.precision, attention=options.attention,
            )
            for path in options.run
        ]  # fmt: skip
    for name in ("scheduler", "size"):
        if getattr(options, name) is not None:
            raise ValueError(
                f"{name} is {getattr(options, name)!r}, which no run has a use for; name the model that has"
            )
    return find_models(
        options.root,
        device=options.device,
        allow=options.allow,
        vae=options.vae,
        text=options.text,
        attention=options.attention,
    )
