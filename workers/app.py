"""The Celery application: broker, schedule, life of the worker processes."""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.signals import worker_process_init, worker_process_shutdown

from backend.settings import Settings
from backend.valkey.task_queue import broker_options
from workers.loop import close_loop, open_loop
from workers.schedule import SCHEDULE

app = Celery(
    "tanhui",
    broker=Settings().valkey_url,
    include=[
        "workers.tasks.actions",
        "workers.tasks.backtests",
        "workers.tasks.ledger",
        "workers.tasks.market",
        "workers.tasks.market_batches",
        "workers.tasks.market_funds",
        "workers.tasks.market_retirement",
        "workers.tasks.outbox",
        "workers.tasks.restate",
        "workers.tasks.rewards",
        "workers.tasks.settlement",
        "workers.tasks.webhooks",
    ],
)
app.conf.update(
    broker_options(),
    beat_schedule=SCHEDULE,
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
    worker_send_task_events=False,
    broker_connection_max_retries=None,
    worker_cancel_long_running_tasks_on_connection_loss=False,
)


def _on_process_start(**_: Any) -> None:
    open_loop()


def _on_process_end(**_: Any) -> None:
    close_loop()


worker_process_init.connect(_on_process_start)
worker_process_shutdown.connect(_on_process_end)
