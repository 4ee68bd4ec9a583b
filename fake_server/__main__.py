"""`fake-aihub` and `python -m fake_server`: a fake AI Hub on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from fake_server.certify import certify


@click.group(invoke_without_command=True)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8800,
    show_default=True,
    help="The port to listen on; 0 takes a free one.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Keep the world here across restarts.")
@click.option("--run-seconds", default=1.0, show_default=True, help="How long a run takes.")
@click.option("--latency-ms", default=0.0, show_default=True, help="How long every answer is held back.")
@click.option("--requests-per-s", default=0, help="Refuse more than this with 429; 0 refuses none.")
@click.option("--page-files", default=100, show_default=True, help="Files on a page of results.")
@click.option("--scenarios", type=click.Path(path_type=Path), help="A folder with scenario packs of one's own.")
@click.option("--fixtures", type=click.Path(path_type=Path), help="A folder with results for file names.")
@click.pass_context
def main(
    context: click.Context,
    port: int,
    host: str,
    data_dir: Path | None,
    run_seconds: float,
    latency_ms: float,
    requests_per_s: int,
    page_files: int,
    scenarios: Path | None,
    fixtures: Path | None,
) -> None:
    """Serve a fake AI Hub until it is stopped. It takes tokens that begin with fake-, and no others."""
    if context.invoked_subcommand is not None:
        return
    import socket

    from fake_server.app import create_app
    from fake_server.clock import Clock
    from fake_server.extraction import Extraction
    from fake_server.serve import make_server
    from fake_server.service import Service
    from fake_server.world import World

    try:
        extraction = Extraction(scenarios, fixtures)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    clock = Clock()
    if data_dir is not None:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    service = Service(
        clock,
        World(clock, data_dir),
        extraction=extraction,
        run_seconds=run_seconds,
        latency_ms=latency_ms,
        page_files=page_files,
        requests_per_s=requests_per_s,
    )
    try:
        listener = socket.create_server((host, port), backlog=2048)
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}, {error.strerror}") from error
    click.echo(f"http://{host}:{listener.getsockname()[1]}/api")
    make_server(create_app(service), host, port).run([listener])


main.add_command(certify)

if __name__ == "__main__":
    main()
