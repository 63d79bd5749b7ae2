"""A connection to Ray: to a cluster, or to one of our own on this machine."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

from graphopt.errors import BadInput, EnvironmentProblem
from graphopt.runtime import default_threads

__all__ = ["connected", "require_tune"]

_OBJECTS = 80 << 20
"""Bytes of a local object store: results are small JSON, and Ray takes no less than 75 MB."""
_SECONDS = 5.0
"""A judgement: how long an address may take to accept a connection."""
_SETTINGS = b"\x04"
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + _SETTINGS + b"\0\0\0\0\0"
"""What a client of HTTP/2 says first, and empty settings; a server answers with its own (RFC 9113, 3.4)."""
_HINT = "`ray status --address HOST:PORT` tells of a cluster; --ray local needs none."
_NICENESS = "RAY_worker_niceness"
_KEPT = ("RAY_TMPDIR", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


def require_tune() -> None:
    """Raise `EnvironmentProblem` where Ray or Optuna is not installed."""
    missing = [name for name in ("ray", "optuna") if importlib.util.find_spec(name) is None]
    if missing:
        raise EnvironmentProblem(
            f"trials need {' and '.join(missing)}, which is not installed",
            hint="pip install 'graphopt[tune]'",
        )


@contextlib.contextmanager
def connected(ray: str) -> Iterator[Any]:
    """The module `ray`, connected: to the cluster at an address, to one of our own ("local"), or ("auto") to
    the one that RAY_ADDRESS names or that runs on this machine, if any does, else to our own.

    Nothing of Ray's comes to stdout meanwhile, it reports nothing home and has no dashboard. Raises
    `EnvironmentProblem` where the address does not answer.
    """
    require_tune()
    asked = os.environ.get("RAY_ADDRESS") if ray == "auto" else None if ray == "local" else ray
    with _environment(), contextlib.redirect_stdout(io.StringIO()), contextlib.ExitStack() as rest:
        import ray as module

        if ray == "auto" and asked is None:
            asked = _running_here(module)
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
        handlers = _handlers()
        try:
            if asked is not None:
                _require_answer(asked)
                try:
                    module.init(address=asked, **quiet)
                except (ConnectionError, RuntimeError, ValueError) as error:
                    why = str(error).splitlines()[0]
                    raise EnvironmentProblem(f"the Ray cluster at {asked} takes no tasks: {why}") from error
            else:
                folder = rest.enter_context(_scratch())
                module.init(
                    address="local",
                    num_cpus=default_threads(),
                    include_dashboard=False,
                    object_store_memory=_OBJECTS,
                    _node_ip_address="127.0.0.1",
                    _temp_dir=folder,
                    **quiet,
                )
            _restore(handlers)
            yield module
        finally:
            module.shutdown()
            _restore(handlers)


@contextlib.contextmanager
def _scratch() -> Iterator[str]:
    """A folder for Ray's logs and sockets, whose paths may have 107 letters."""
    folder = tempfile.mkdtemp(prefix="ray-", dir=os.environ.get("RAY_TMPDIR") or "/tmp")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """Without what somebody set for other programs of Ray's, which processes that it starts would follow."""
    before = {name: value for name, value in os.environ.items() if name.startswith("RAY_")}
    try:
        for name in before.keys() - set(_KEPT):
            del os.environ[name]
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"  # else tasks that ask for no GPU see none
        os.environ[_NICENESS] = "0"  # else 15: what is timed would wait for all others
        yield
    finally:
        for name in [name for name in os.environ if name.startswith("RAY_")]:
            del os.environ[name]
        os.environ.update(before)


def _running_here(module: Any) -> str | None:
    """The address of the cluster that was started last on this machine, if it answers."""
    address = module._private.utils.read_ray_address()
    if not address:
        return None
    try:
        _require_answer(address)
    except EnvironmentProblem:
        return None
    return str(address)


def _require_answer(address: str) -> None:
    """Raise `EnvironmentProblem` where no gRPC server answers at `address`, which Ray's would.

    Ray itself tries for minutes, and then ends the process.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not host or "/" in host or not port.isdecimal():
        raise BadInput(f"{address!r} is no address of a Ray cluster", hint="Write HOST:PORT, auto or local.")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS) as connection:
            connection.sendall(_HELLO)
            answer = connection.recv(9)
    except (OSError, OverflowError) as error:
        raise EnvironmentProblem(f"no Ray cluster answers at {address}: {error}", hint=_HINT) from error
    if answer[3:4] != _SETTINGS:
        raise EnvironmentProblem(f"what answers at {address} is no Ray cluster", hint=_HINT)


def _handlers() -> dict[int, Any]:
    """What SIGTERM does: Ray puts its own in the place of it."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {signal.SIGTERM: signal.getsignal(signal.SIGTERM)}


def _restore(handlers: dict[int, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
