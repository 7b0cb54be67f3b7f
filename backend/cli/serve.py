"""Serving: everything in one (``up``), or one role (``api``, ``worker``, ``beat``); ``doctor`` says what is missing."""

from __future__ import annotations

import shutil
import signal
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
import uvicorn
from rich.table import Table

from backend.cli.cafe import seed_demo
from backend.cli.console import OUT, quiet_logs, service_logs, with_services
from backend.mongo.embedded import find_mongod
from backend.process.errors import ServerError
from backend.settings import Settings
from backend.stack import running_stack
from backend.valkey.embedded import find_valkey_server

Port = Annotated[int | None, typer.Option(help="Port of the API; a free one where not given.")]


def up(
    port: Port = 8000,
    data: Annotated[Path, typer.Option(help="Folder of the embedded servers' data.")] = Path(".tanhui"),
    ephemeral: Annotated[bool, typer.Option(help="Use a temporary folder and remove it at the end.")] = False,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Worker processes.")] = 2,
    demo: Annotated[bool, typer.Option(help="Register demo citizens, partners and a café, and print tokens.")] = False,
) -> None:
    """Serve everything on this machine until Ctrl-C."""
    quiet_logs()
    stopped = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stopped.set())
    with ExitStack() as resources:
        if ephemeral:
            data = Path(tempfile.mkdtemp(prefix="tanhui-"))
            resources.callback(shutil.rmtree, data, ignore_errors=True)
        settings = Settings().model_copy(update={"data_dir": data})
        stack = resources.enter_context(running_stack(settings, port=port, workers=workers))
        OUT.print(f"\n[bold green]碳惠 Tanhui[/] serves at [link]{stack.url}/graphql[/link]  (Ctrl-C stops)")
        OUT.print(
            f"  MongoDB {stack.settings.mongodb_url}\n  Valkey  {stack.settings.valkey_url}\n  logs    {data / 'logs'}"
        )
        if demo:
            city = with_services(stack.settings, seed_demo)
            OUT.print("\nDemo logins (send as [bold]Authorization: Bearer …[/]):")
            for who, token in city.tokens.items():
                OUT.print(f"  [cyan]{who}[/]\n    {token}", soft_wrap=True, highlight=False)
        while not stopped.wait(0.5):
            stack.supervise()
        OUT.print("stopping …")


def api(
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Serve GraphQL over HTTP and websocket; needs TANHUI_MONGODB_URL and TANHUI_VALKEY_URL."""
    service_logs()
    uvicorn.run(
        "backend.app:create_app",
        factory=True,
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        log_level="warning",
        access_log=False,
        timeout_keep_alive=65,  # longer than load balancers keep theirs, so that they never meet a closed one
        timeout_graceful_shutdown=15,
        ws_max_size=65_536,
    )


def worker(concurrency: Annotated[int, typer.Option(min=1, help="Processes.")] = 2) -> None:
    """Run Celery workers; needs TANHUI_MONGODB_URL and TANHUI_VALKEY_URL."""
    from workers.app import app as celery  # noqa: PLC0415 - a face of its own, loaded only by its role

    service_logs()
    celery.worker_main(
        ["worker", "--loglevel=INFO", f"--concurrency={concurrency}", "--without-gossip", "--without-mingle"]
    )


def beat() -> None:
    """Run the schedule; one per deployment is enough, a second only repeats sweeps."""
    from workers.app import app as celery  # noqa: PLC0415 - a face of its own, loaded only by its role

    state = Settings().data_dir / "beat"
    state.mkdir(parents=True, exist_ok=True)
    celery.Beat(schedule=str(state / "schedule"), loglevel="WARNING").run()


def doctor() -> None:
    """Say what this machine has of what is needed."""
    settings = Settings()
    table = Table("part", "state", "detail")
    missing = False
    for name, url, find in (
        ("MongoDB", settings.mongodb_url, find_mongod),
        ("Valkey", settings.valkey_url, find_valkey_server),
    ):
        if url is not None:
            table.add_row(name, "[green]set[/]", url)
            continue
        try:
            table.add_row(name, "[green]embedded[/]", str(find()))
        except ServerError as error:
            missing = True
            table.add_row(name, "[red]missing[/]", str(error))
    OUT.print(table)
    raise typer.Exit(1 if missing else 0)


def add_to(app: typer.Typer) -> None:
    """Register this module's commands."""
    for function in (up, api, worker, beat, doctor):
        app.command()(function)
