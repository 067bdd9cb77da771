"""The server: a socket that is ours before anything is loaded, the guard, and the page behind it."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .limits import Limits
from .options import is_loopback
from .passwords import NAME, Passwords
from .running import Running

__all__ = ["check_open", "listening", "serving", "url_of"]

FIRST, PORTS = 7860, 100


def check_open(host: str, passwords: Passwords) -> None:
    """Refuse to be open to others without a password.

    Raises:
        ValueError: there, with what to do.
    """
    if not passwords and not is_loopback(host):
        raise ValueError(
            f"host is {host!r}, which others can reach, and anybody could use this machine; give --auth FILE with a user:password per "
            f"line (or set {NAME}), or stay on 127.0.0.1 and forward the port: ssh -L 7860:127.0.0.1:7860 THIS_MACHINE"
        )


def listening(host: str, port: int | None) -> socket.socket:
    """A socket that listens.

    Args:
        host: an address of this machine.
        port: None: the first that is free from 7860 on.

    Raises:
        ValueError: for a port that is taken, and an address that is not this machine's.
    """
    address = "127.0.0.1" if host.lower() == "localhost" else host
    for each in [port] if port is not None else range(FIRST, FIRST + PORTS):
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((address, each))
            sock.listen(128)
            return sock
        except OSError as error:
            sock.close()
            if error.errno == errno.EADDRINUSE and port is None:
                continue
            raise ValueError(_unusable(host, each, error)) from error
    raise ValueError(f"ports {FIRST} to {FIRST + PORTS - 1} of {host} are all taken; give a free one by --port")


def _unusable(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port is {port}, which is taken on {host}; give another, or leave it out for one that is free"
    if error.errno == errno.EACCES:
        return f"port is {port}, which this user may not listen on; allowed: 1024 and more"
    return (
        f"host is {host!r}, which can't be listened on: {error.strerror or error}; allowed: an address of this machine"
    )


def url_of(host: str, port: int) -> str:
    """Where the page is, from this machine."""
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{here}]:{port}/" if ":" in here else f"http://{here}:{port}/"


@contextmanager
def serving(
    page: Any, sock: socket.socket, host: str, folder: Path, limits: Limits, passwords: Passwords, running: Running
) -> Iterator[threading.Thread]:
    """Within, the page is served; afterwards nothing is at work any more.

    Args:
        page: a gradio.Blocks, of `build_app`.
        sock: that listens.
        host: that it listens on, as was asked for.
        folder: of `surroundings`.
        limits: of one visitor.
        passwords: of those who may look.
        running: who is at work.

    Raises:
        RuntimeError: for a server that does not come up.
    """
    import gradio as gr
    import uvicorn
    from fastapi import FastAPI

    from .guard import Guard
    from .look import css, favicon, script, theme

    # mounted rather than launched: `launch` asks for its own page over the network's settings, takes the port a second time, and puts
    # middleware of its own in front of ours
    app = gr.mount_gradio_app(
        FastAPI(openapi_url=None, docs_url=None, redoc_url=None), page, "/", server_name=host, server_port=sock.getsockname()[1],
        theme=theme(), css=css(), js=script(), favicon_path=favicon(), footer_links=[],
        run_history=False, allowed_paths=[], blocked_paths=[], show_error=False,
        max_file_size=limits.upload, ssr_mode=False, enable_monitoring=False, pwa=False, mcp_server=False, root_path="",
    )  # fmt: skip
    config = uvicorn.Config(
        Guard(app, host, folder, limits.upload, passwords), log_level="critical", access_log=False, server_header=False,
        date_header=False, lifespan="on", ws="none", limit_concurrency=1000, timeout_graceful_shutdown=1,
        h11_max_incomplete_event_size=2**16,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True, name="page")
    thread.start()
    try:
        end = time.monotonic() + 30
        while not server.started:
            if not thread.is_alive() or time.monotonic() > end:
                raise RuntimeError("the server did not come up")
            time.sleep(0.01)
        yield thread
    finally:
        running.stop_all()
        server.should_exit = True
        page.is_running = False
        thread.join(10)
        if not thread.is_alive():  # otherwise it is still its
            sock.close()
