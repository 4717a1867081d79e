"""Where connectors hang themselves into webhooks."""

from flask import Flask

from catalog import event_types
from connectors import (
    absence,
    advance,
    approvals,
    claims,
    conditions,
    flows,
    holding,
    nightly_proofs,
    reconcile_claims,
    reconcile_threads,
    routing,
    run_records,
    runs,
    spoken,
    triggers_in,
)
from connectors.completing import claims as completing_claims
from connectors.completing import completions, planning, turns
from connectors.completing import pages as completing
from connectors.drifting import drifts, watching
from connectors.engine import loader
from connectors.health import counts, expiries, refreshing_threads
from connectors.incidents import repairs, rounds
from connectors.pages import reconciliations as missing_events
from connectors.pages import source_ties
from connectors.publishing import checks, shelf
from connectors.resting import waits
from connectors.sheets import turns as sheet_turns
from connectors.stores import values
from connectors.streams import holds, listening
from connectors.subscriptions import threads
from identity import audit, suspensions
from kernel import queue
from kernel.errors import N_
from webhooks import backlogs, drain, events, fan_out, workers
from webhooks import conditions as webhook_conditions
from webhooks import offers as known_senders
from webhooks.keeping import records
from webhooks.pages import sources as source_pages

audit.name_actions(
    {
        "connection.created": N_("connected an app"),
        "connection.changed": N_("changed a connection"),
        "connection.tested": N_("tested a connection"),
        "connection.consent_begun": N_("went to sign in at an app"),
        "connection.consent_given": N_("came back from signing in at an app"),
        "connection.revoked": N_("disconnected an app"),
        "connection.paused": N_("paused a connection"),
        "connection.resumed": N_("resumed a connection"),
        "connection.given": N_("said what AI assistants may do in an app"),
        "assistant.called": N_("used an app as an AI assistant"),
        "webhook.ordered": N_("let the hub order an app's webhook"),
        "webhook.ended": N_("let the hub end an app's webhook"),
        "webhook.looked": N_("looked whether an app's webhook is there"),
        "connection.drifts_seen": N_("looked at how an app departs from its connector"),
        "completion.retried": N_("fetched an event's content again"),
        "poll.started": N_("let the hub ask an app for what is new"),
        "stream.started": N_("let the hub listen to an app"),
        "stream.stopped": N_("stopped listening to an app"),
        "poll.stopped": N_("stopped asking an app for what is new"),
        "sheet.uploaded": N_("uploaded a spreadsheet"),
        "sheet.let_in": N_("let a spreadsheet in as events"),
        "sheet.given_up": N_("threw an uploaded spreadsheet away"),
        "flow.created": N_("created a flow"),
        "flow.published": N_("published a flow"),
        "flow.paused": N_("paused a flow"),
        "flow.resumed": N_("resumed a flow"),
        "flow.deleted": N_("deleted a flow"),
        "flow.version_restored": N_("took up an earlier version of a flow"),
        "reconciliation.set_up": N_("let the hub look for missing events"),
        "reconciliation.asked": N_("looked for missing events"),
        "run.retried": N_("tried a run again"),
        "run.replayed": N_("repeated a run"),
        "run.input_edited": N_("corrected the input of a run"),
        "run.step_taken_as_done": N_("took a step of a run as done"),
        "run.cancelled": N_("cancelled a run"),
        "run.item_left_out": N_("left out an item of a run"),
        "flow.published_to_test": N_("published a flow to test"),
        "flow.promoted": N_("let a tested flow go live"),
        "flow.stopped_in_test": N_("stopped a flow in test"),
        "connection.moved": N_("moved a connection to another environment"),
        "source.moved": N_("moved a source to another environment"),
        "run.error_path_taken": N_("sent a run down its error path"),
        "store.value_kept": N_("changed a value in the data store"),
        "store.value_deleted": N_("deleted a value from the data store"),
        "store.collection_deleted": N_("deleted a collection of the data store"),
        "store.exported": N_("took values out of the data store"),
        "run.items_retried": N_("tried items of a run again"),
        "run.delay_ended": N_("let a run go on before its time"),
        "approval.approved": N_("approved what a flow asked"),
        "approval.refused": N_("refused what a flow asked"),
        "run.bulk_replayed": N_("repeated parked runs"),
        "edition.uploaded": N_("uploaded a connector"),
        "edition.deleted": N_("threw a draft of a connector away"),
        "edition.submitted": N_("sent a connector to review"),
        "edition.published": N_("published a connector"),
        "edition.refused": N_("refused a connector"),
        "edition.changed": N_("changed what a version of a connector is good for"),
        "connection.upgraded": N_("moved a connection to a newer version of its connector"),
        "incident.changed": N_("took care of a trouble"),
        "incident.closed": N_("marked a trouble as dealt with"),
        "incident.repair_begun": N_("repaired what stopped for one cause"),
        "incident.repair_stopped": N_("stopped a repair"),
    }
)

_SWEEPS = (
    ("connectors.absence", absence.sweep),
    ("connectors.counts", counts.sweep),
    ("connectors.expiries", expiries.sweep),
    ("connectors.refreshing", refreshing_threads.sweep),
    ("connectors.subscriptions", threads.sweep),
    ("connectors.approvals", approvals.sweep),
    ("connectors.waits", waits.sweep),
    ("connectors.stores", values.sweep),
    ("connectors.reconcile", reconcile_threads.sweep),
    ("connectors.sheets", sheet_turns.sweep),
    ("connectors.streams", listening.sweep),
    ("connectors.incidents", rounds.sweep),
    ("connectors.repairs", repairs.sweep),
    ("connectors.proofs", nightly_proofs.sweep),
    ("connectors.checks", checks.sweep),
)


def install(app: Flask) -> None:  # noqa: ARG001 - every package's hooks look the same
    """Add the router that starts runs and the stage that moves them on; once per process."""
    if routing.plan not in fan_out.ROUTERS:
        fan_out.ROUTERS.append(routing.plan)
    _install_completing()
    _install_drifting()
    if conditions.LANGUAGE not in webhook_conditions.LANGUAGES:
        webhook_conditions.LANGUAGES.append(conditions.LANGUAGE)
    if flows.receivers not in event_types.RECEIVERS:
        event_types.RECEIVERS.append(flows.receivers)
    if spoken.speakers not in event_types.SPEAKERS:
        event_types.SPEAKERS.append(spoken.speakers)
    if runs.traces not in events.TRACES:
        events.TRACES.append(runs.traces)
    if all(stage.name != "runs" for stage in drain.STAGES):
        drain.STAGES.append(drain.Stage("runs", claims.is_any_due, advance.advance))
    if run_records.FOLLOWER not in records.FOLLOWERS:
        records.FOLLOWERS.append(run_records.FOLLOWER)
    if holding.RUNS not in suspensions.HOLDS:
        suspensions.HOLDS.append(holding.RUNS)
    backlogs.COUNTS["runs"] = runs.count_waiting
    for release in (
        claims.release,
        reconcile_claims.release,
        completing_claims.release,
        sheet_turns.release,
        holds.release,
    ):
        if release not in workers.HOLDERS:
            workers.HOLDERS.append(release)
    if triggers_in.offers not in known_senders.MORE:
        known_senders.MORE.append(triggers_in.offers)
    _add_cards()
    known = {sweep.name for sweep in queue.SWEEPS}
    queue.SWEEPS += [queue.Sweep(*one) for one in _SWEEPS if one[0] not in known]
    if shelf.find not in loader.SHELVES:
        loader.SHELVES.append(shelf.find)


def _add_cards() -> None:
    """Put our cards on the page of a source."""
    for card in (source_ties.card, missing_events.card):
        if card not in source_pages.CARDS:
            source_pages.CARDS.append(card)


def _install_completing() -> None:
    """Add what makes whole events of those that say little."""
    if planning.plan not in fan_out.ROUTERS:
        fan_out.ROUTERS.append(planning.plan)
    if completions.traces not in events.TRACES:
        events.TRACES.append(completions.traces)
    if all(stage.name != "completing" for stage in drain.STAGES):
        drain.STAGES.append(drain.Stage("completing", completing_claims.is_any_due, turns.work))
    if completions.FOLLOWER not in records.FOLLOWERS:
        records.FOLLOWERS.append(completions.FOLLOWER)
    if completing.card not in source_pages.CARDS:
        source_pages.CARDS.append(completing.card)
    if all(sweep.name != "connectors.completing" for sweep in queue.SWEEPS):
        queue.SWEEPS.append(queue.Sweep("connectors.completing", completions.sweep))


def _install_drifting() -> None:
    """Add what notices where apps depart from their connectors."""
    if watching.plan not in fan_out.ROUTERS:
        fan_out.ROUTERS.append(watching.plan)
    if all(sweep.name != "connectors.drifts" for sweep in queue.SWEEPS):
        queue.SWEEPS.append(queue.Sweep("connectors.drifts", drifts.sweep))
