"""Where connectors hang themselves into webhooks."""

from flask import Flask

from connectors import advance, claims, routing, runs
from identity import audit
from kernel.errors import N_
from webhooks import drain, events, fan_out, workers

audit.name_actions(
    {
        "connection.created": N_("connected an app"),
        "connection.changed": N_("changed a connection"),
        "connection.tested": N_("tested a connection"),
        "connection.revoked": N_("disconnected an app"),
        "flow.created": N_("created a flow"),
        "flow.published": N_("published a flow"),
        "flow.paused": N_("paused a flow"),
        "flow.resumed": N_("resumed a flow"),
        "flow.deleted": N_("deleted a flow"),
        "flow.version_restored": N_("took up an earlier version of a flow"),
        "run.retried": N_("tried a run again"),
        "run.replayed": N_("repeated a run"),
        "run.input_edited": N_("corrected the input of a run"),
        "run.step_taken_as_done": N_("took a step of a run as done"),
        "run.cancelled": N_("cancelled a run"),
        "run.bulk_replayed": N_("repeated parked runs"),
    }
)


def install(app: Flask) -> None:  # noqa: ARG001 - every package's hooks look the same
    """Add the router that starts runs and the stage that moves them on; once per process."""
    if routing.route not in fan_out.ROUTERS:
        fan_out.ROUTERS.append(routing.route)
    if runs.traces not in events.TRACES:
        events.TRACES.append(runs.traces)
    if all(stage.name != "runs" for stage in drain.STAGES):
        drain.STAGES.append(drain.Stage("runs", claims.is_any_due, advance.advance))
    if claims.release not in workers.HOLDERS:
        workers.HOLDERS.append(claims.release)
