"""Sends named tasks to the workers through the broker. It knows names and ids, never the tasks themselves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from celery import Celery

if TYPE_CHECKING:
    from collections.abc import Sequence


def broker_options() -> dict[str, object]:
    """Settings that producer and workers must share."""
    return {
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_ignore_result": True,
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "broker_connection_retry_on_startup": True,
        # A task taken by a worker that died is given out again after this long; the sweeper is quicker.
        "broker_transport_options": {"visibility_timeout": 60, "socket_timeout": 5, "socket_connect_timeout": 2},
        "task_default_queue": "tanhui",
        "timezone": "UTC",
    }


class TaskQueue:
    """Producer side of the Celery broker."""

    def __init__(self, broker_url: str) -> None:
        self._celery = Celery("tanhui-producer", broker=broker_url)
        self._celery.conf.update(broker_options())

    async def send_many(self, name: str, arguments: Sequence[Sequence[int]]) -> None:
        """Send one task per list of numbers; the broker's client blocks, so it gets a thread of its own.

        Raises:
            kombu.exceptions.OperationalError: the broker does not answer.
        """
        await asyncio.to_thread(self._send_all, name, arguments)

    def _send_all(self, name: str, arguments: Sequence[Sequence[int]]) -> None:
        with self._celery.producer_or_acquire() as producer:
            for argument in arguments:
                self._celery.send_task(name, [argument], producer=producer, retry=False)

    def close(self) -> None:
        """Close the broker connections."""
        self._celery.close()
