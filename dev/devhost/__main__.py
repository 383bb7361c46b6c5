"""Command line of the local Functions host: `python -m dev.devhost --help`.

Decides where the app is, on which port to listen, and which settings the app gets; the host
does the rest. Exit codes: 0 stopped by a signal, 1 the app cannot be indexed, 2 bad
configuration, 3 the port is taken, 4 a function ran into functionTimeout.
"""

import argparse
import asyncio
import logging
import os
import sys
from pathlib import Path

from dev.devhost import config
from dev.devhost.config import ConfigError, HostError
from dev.devhost.host import Host, Options
from dev.devhost.keys import Keys

_DEFAULT_PORT = 7071
_LONGEST_LEASE_S = 7 * 24 * 3600
"""Storage hides a message for no longer."""
_LEASE_S = 600.0
"""As in Azure, where no setting changes it."""


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dev.devhost", description="Serve an Azure Functions app on this machine."
    )
    parser.add_argument("--app", type=Path, default=Path(), help="app folder (default: this one)")
    parser.add_argument(
        "--port",
        type=int,
        help="port to listen on, 0 for any (default: HOST_PORT, then Host.LocalHttpPort of the "
        f"settings file, then {_DEFAULT_PORT})",
    )
    parser.add_argument("--bind", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--pid-file", type=Path, help="write the process id to this file")
    parser.add_argument(
        "--state-dir", type=Path, help="remember timer schedules here, to make up missed ticks"
    )
    parser.add_argument(
        "--lease",
        type=float,
        help="seconds after which a killed host's queue messages come back (default: HOST_LEASE_S, "
        f"then {_LEASE_S:g})",
    )
    parser.add_argument(
        "--enable-auth",
        action="store_true",
        help="ask for function, system and master keys, as Azure does (also: HOST_AUTH=on)",
    )
    parser.add_argument(
        "--verbose", action="store_true", help="log tracebacks and the worker library's own log"
    )
    return parser


def _port(given: int | None, local: config.LocalSettings) -> int:
    if given is not None:
        return given
    text = os.environ.get("HOST_PORT")
    if text is None:
        return local.http_port or _DEFAULT_PORT
    if not text.isdecimal() or int(text) > 65535:
        raise ConfigError(f"HOST_PORT is not a port number: {text!r}")
    return int(text)


def _lease(given: float | None) -> float:
    text = os.environ.get("HOST_LEASE_S", "") if given is None else str(given)
    try:
        seconds = float(text or _LEASE_S)
    except ValueError as error:
        raise ConfigError(f"HOST_LEASE_S is not a number of seconds: {text!r}") from error
    if not 1 <= seconds <= _LONGEST_LEASE_S:
        raise ConfigError(f"the lease must be 1 to {_LONGEST_LEASE_S} seconds, not {seconds:g}")
    return seconds


def _log_to_stderr(level: int, verbose: bool) -> None:
    logging.basicConfig(
        level=logging.DEBUG if verbose else level,
        format="%(asctime)s.%(msecs)03d %(levelname)-7s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    # The host's own lines are the point of running it, whatever the app's level.
    logging.getLogger("devhost").setLevel(min(level, logging.INFO))
    # Each storage call would log its headers.
    logging.getLogger("azure").setLevel(logging.WARNING)


def _asks_for_keys(enabled: bool) -> bool:
    wanted = os.environ.get("HOST_AUTH", "off").strip().lower()
    if wanted not in ("", "on", "off"):
        raise ConfigError(f"HOST_AUTH is on or off, not {wanted!r}")
    return enabled or wanted == "on"


def _serve(arguments: argparse.Namespace) -> int:
    app = arguments.app.resolve()
    wanted = config.read_host_json(app)
    local = config.read_settings(app)
    config.apply_settings(local, os.environ)
    _log_to_stderr(wanted.log_level, arguments.verbose)
    logging.getLogger("devhost").info(
        "app %s, settings from environment and %s", app, local.source or "no file"
    )
    if arguments.pid_file:
        arguments.pid_file.parent.mkdir(parents=True, exist_ok=True)
        arguments.pid_file.write_text(f"{os.getpid()}\n")
    options = Options(
        app=app,
        port=_port(arguments.port, local),
        bind=arguments.bind,
        lease=_lease(arguments.lease),
        keys=Keys.read(os.environ) if _asks_for_keys(arguments.enable_auth) else None,
        state_dir=arguments.state_dir.resolve() if arguments.state_dir else None,
        verbose=arguments.verbose,
    )
    # Functions read files relative to the app folder, as in the cloud.
    os.chdir(app)
    return asyncio.run(Host(options, wanted).run())


def main() -> None:
    """Run the host; ends the process."""
    try:
        code = _serve(_arguments().parse_args())
    except HostError as error:
        print(f"devhost: {error}", file=sys.stderr)
        code = error.exit_code
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: threads of synchronous functions that outlived their grace would hold it.
    os._exit(code)


if __name__ == "__main__":
    main()
