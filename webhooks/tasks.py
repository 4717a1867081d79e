"""The bell's other end: Celery calls, the rows say what to do."""

from celery import shared_task

from webhooks import drain


@shared_task(name="webhooks.drain")
def drain_ready() -> int:
    """Route and send whatever is ready."""
    return drain.drain_here()
