"""The shop's Celery task, and the sweep that finds what a lost nudge left behind."""

from celery import shared_task
from flask import Flask

from kernel import queue
from marketplace import rollout_turns


@shared_task(name="marketplace.advance_rollouts")
def advance_rollouts() -> None:
    """Move every rollout on that is due."""
    rollout_turns.advance_rollouts()


def install(_app: Flask) -> None:
    """Join the sweeps, once however many apps are made."""
    if all(sweep.name != "marketplace.rollouts" for sweep in queue.SWEEPS):
        queue.SWEEPS.append(queue.Sweep("marketplace.rollouts", rollout_turns.advance_rollouts))
