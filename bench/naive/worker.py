"""The baseline's worker: one message, one POST, one UPDATE."""

import os
from typing import Any

import requests
from celery import Celery

from bench.naive import QUEUE, store

celery = Celery("naive", broker=os.environ["NAIVE_BROKER_URL"])
celery.conf.update(task_ignore_result=True, task_default_queue=QUEUE)


@celery.task
def deliver(event_id: str, event: dict[str, Any]) -> None:
    """Bring one event to the target."""
    requests.post(os.environ["NAIVE_TARGET_URL"], json=event, timeout=15).raise_for_status()
    store.connection().execute(
        "UPDATE event SET state = 'delivered', delivered_at = now() WHERE id = %s", (event_id,)
    )
