"""The commands `fake-aihub` and `python -m fake_aihub`: serve a fake AI Hub on this machine."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fake_aihub.certify.cli import certify, say

if TYPE_CHECKING:
    from fake_aihub.api.service import Service
    from fake_aihub.server.log import Format


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--port", default=8800, show_default=True, help="Port to listen on; 0 picks a free port.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder that keeps the fake's data across restarts.")
@click.option("--run-seconds", default=1.0, show_default=True, help="Duration of a run.")
@click.option("--latency-ms", default=0.0, show_default=True, help="Delay of every response.")
@click.option("--requests-per-s", default=0, help="Answer 429 above this rate; 0 means no limit.")
@click.option("--page-files", default=100, show_default=True, help="Number of files on a page of results.")
@click.option("--clock", default="real", show_default=True, help="real, frozen, or an ISO time to freeze at.")
@click.option("--seed", default=0, show_default=True, help="Seed of all generated ids.")
@click.option(
    "--faults", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="TOML file with fault scripts."
)
@click.option("--journal-size", default=10_000, show_default=True, help="Number of requests to keep in the journal.")
@click.option("--cors", metavar="ORIGIN", default="", help="Allow requests from pages of this origin; * allows all.")
@click.option(
    "--allowed-host",
    "allowed_hosts",
    metavar="NAME",
    multiple=True,
    help="Accept this host name for the controls, besides those of this machine; repeatable.",
)
@click.option("--any-token", is_flag=True, help="Accept every token, not only those that start with fake-.")
@click.option("--strict", is_flag=True, help="Reject parameters and properties that the API description does not name.")
@click.option("--allow-webhooks", is_flag=True, help="Call webhooks on other machines, too.")
@click.option("--scenarios", type=click.Path(path_type=Path), help="Folder with your own scenario packs.")
@click.option(
    "--fixtures", type=click.Path(path_type=Path), help="Folder with your own results, one JSON file per file name."
)
@click.option("--quiet", is_flag=True, help="Do not print a line for each request.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    help="Print a line for each request to standard error. Default: text on a terminal, else none.",
)
@click.version_option(package_name="aihub-runner", prog_name="fake-aihub")
@click.pass_context
def main(
    context: click.Context, /, host: str, port: int, quiet: bool, log_format: Format | None, **options: Any
) -> None:
    """Serve a fake AI Hub until you stop it. By default it accepts only tokens that start with fake-.

    To watch it, open the printed address in a browser, with /_fake/ instead of /api.
    """
    if context.invoked_subcommand is not None:
        return
    from fake_aihub.api.service import make_service
    from fake_aihub.controls.options import OptionError, check_options
    from fake_aihub.server.log import print_exchange

    try:
        check_options({"host": host, "port": port})
        service = make_service(**options)
    except OptionError as error:
        raise click.UsageError(f"--{error.name.replace('_', '-')} {error.problem}") from None
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from None
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    if log_format is None and sys.stderr.isatty():
        log_format = "text"
    if log_format and not quiet:
        service.watchers.append(partial(print_exchange, form=log_format))
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror}") from error
    shown = f"[{host}]" if ":" in host else host
    place = f"http://{shown}:{listener.getsockname()[1]}"
    say(f"{place}/api")
    if sys.stderr.isatty() and not quiet:
        say(f"watch it at {place}/_fake/", err=True)
    _serve(service, host, port, listener)


def _serve(service: Service, host: str, port: int, listener: socket.socket) -> None:
    from fake_aihub.api.app import create_app
    from fake_aihub.server.http import make_server, raise_open_files

    raise_open_files()
    # uvicorn raises the signal again after a clean shutdown. The reports below must still be printed after that.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        make_server(create_app(service), host, port).run([listener])
    service.world.close()
    for fault in service.faults.unused():
        say(f"unused fault: {fault['operation']} {fault['when']} {fault['do']}", err=True)
    for script in service.world.unused_scripts:
        say(f"unused next run: {json.dumps(script)}", err=True)


main.add_command(certify)
