"""Ways back: closing accounts, ending subscriptions, taking flows away; installs undo with them,
uninstalls walk over them. A vendor who stays silent is finished on our side, with a note.
"""

from collections.abc import Mapping
from typing import Any

from connectors import connection_uses, connections, flows
from connectors.tables import Flow
from marketplace import rollout_calls, rollout_ends, rollout_words
from marketplace.rollout_calls import Outcome
from marketplace.rollout_kinds import Again, Call, Done, Refused, Result, Work
from marketplace.tables import Installation
from webhooks import sources

_MAY_WORK_LATER = frozenset({"down", "limit", "unknown"})
_DEFINITE = frozenset({"data", "auth", "config", "limit"})


def not_ok(work: Work, outcome: Outcome) -> Again | Refused:
    """Tell a vendor's “not now” from its “no”; lifecycle calls may always be repeated."""
    answer = outcome.answer
    if answer.kind == "retry" or (answer.kind == "fail" and answer.cause in _MAY_WORK_LATER):
        return Again(_reason(outcome), after_seconds=answer.after_seconds)
    return Refused(
        rollout_words.problem("vendor_refused", app=work.app_title, reason=_reason(outcome))
    )


def _reason(outcome: Outcome) -> dict[str, str]:
    """Return the answer in words, the vendor's own short text behind them."""
    words = dict(
        outcome.answer.say or {"zh": "对方没有接受。", "en": "The vendor did not accept it."}
    )
    if not outcome.answer.detail:
        return words
    return {lang: f"{text} ({outcome.answer.detail[:200]})" for lang, text in words.items()}


# --- accounts ------------------------------------------------------------------------------------


def take_account(work: Work, outcome: Outcome) -> Again | Refused | None:
    """Turn the vendor's answer to `install` into a connection; None: it holds."""
    answer, installation = outcome.answer, work.installation
    assert installation is not None
    if answer.kind != "ok":
        was_refused = answer.kind in ("fail", "retry", "reauth") and answer.cause in _DEFINITE
        if was_refused or not outcome.was_sent:
            work.keep(outcome=work.kept("before", "none"))
        return not_ok(work, outcome)
    output = answer.output or {}
    if installation.connection_id is None:
        connection = connections.create(
            work.session,
            work.organization_id,
            rollout_calls.connector_of(installation).key,
            name=installation.title or installation.app_key,
            fields=output.get("credentials") or {},
            settings=installation.settings.get("connection") or {},
            installation_id=installation.id,
        )
        installation.connection_id = connection.id
    installation.account = _text(output.get("account"), 200)
    installation.open_url = _address(output.get("open_url"))
    installation.settings = {**installation.settings, "state": output.get("state") or {}}
    work.keep(outcome="made")
    return None


def _text(value: Any, limit: int) -> str | None:
    return None if value is None else str(value)[:limit]


def _address(value: Any) -> str | None:
    """Keep a vendor's address only if a browser may follow it."""
    text = _text(value, 2000)
    return text if text and text.startswith(("https://", "http://")) else None


def prepare_release(work: Work) -> Call | None:
    """Ask the vendor to close the account; first to name it, when its answer never reached us."""
    installation = work.installation
    if installation is None:
        return None
    if installation.connection_id is not None:
        connector = rollout_calls.connector_of(installation)
        if "uninstall" not in connector.lifecycle:
            return None
        work.keep(asked_before=work.kept("may_be_closed", default=False), may_be_closed=True)
        return rollout_calls.prepare(work, "uninstall")
    if work.kept("outcome") == "unknown":
        return rollout_calls.prepare(work, "install")
    return None


def settle_release(work: Work, outcome: Outcome | None) -> Result:
    """Destroy our keys once the account is closed, or once the vendor said it will not."""
    installation = work.installation
    if installation is None:
        return Done(rollout_words.say("nothing_there"))
    if installation.connection_id is None:
        return _settle_search(work, outcome)
    if outcome is None:
        _note(work, "no_closing")
        _destroy(work)
        return Done(rollout_words.say("released"))
    if outcome.answer.kind == "ok":
        _destroy(work)
        return Done(rollout_words.say("released"))
    if work.kept("asked_before") and outcome.answer.cause == "auth":
        # we asked once without hearing the answer; now our key is unknown: it was closed then
        _destroy(work)
        return Done(rollout_words.say("released"))
    if outcome.was_answered:
        work.keep(may_be_closed=work.kept("asked_before"))
    result = not_ok(work, outcome)
    if isinstance(result, Again):
        return result
    _note(work, "close_refused", reason=_reason(outcome))
    _destroy(work)
    return Done({lang: str(text) for lang, text in _reason(outcome).items()})


def _settle_search(work: Work, outcome: Outcome | None) -> Result:
    if outcome is None:
        return Done(rollout_words.say("nothing_there"))
    result = take_account(work, outcome)
    if result is None:
        return Again(rollout_words.say("recovering"), is_progress=True)
    if isinstance(result, Refused):
        return Done(rollout_words.say("nothing_there"))
    return result


def give_up_release(work: Work) -> None:
    """Destroy our keys although the vendor is silent, and note what it may still hold."""
    installation = work.installation
    if installation is None:
        return
    if installation.connection_id is not None:
        _note(work, "account_left")
        _destroy(work)
    elif work.kept("outcome") == "unknown":
        _note(work, "account_perhaps")


def _note(work: Work, code: str, **values: Any) -> None:
    account = work.installation.account if work.installation else None
    named = {"zh": f"“{account}”", "en": f" “{account}”"} if account else ""
    note = rollout_words.note(code, work.step.app_key, app=work.app_title, account=named, **values)
    rollout_ends.add_note(work.rollout, note)


def _destroy(work: Work) -> None:
    installation = work.installation
    assert installation is not None
    connection_id = installation.connection_id
    assert connection_id is not None
    connections.revoke(work.session, work.organization_id, connection_id, force=True)
    installation.settings = {**installation.settings, "former_connection_id": connection_id}
    installation.connection_id = None


# --- subscriptions -------------------------------------------------------------------------------


def _subscription(work: Work) -> Mapping[str, Any] | None:
    if work.installation is None:
        return None
    known = (work.installation.settings or {}).get("subscriptions") or {}
    found: Mapping[str, Any] | None = known.get(str(work.step.part_key))
    return found


def address_of(work: Work, source_id: str) -> str:
    """Return the address that a vendor sends its news to."""
    return sources.url_of(sources.get(work.session, work.organization_id, source_id))


def _was_there(work: Work) -> bool:
    """Tell whether the app was in the toolbox before this rollout: then its account stays."""
    return work.installation is not None and work.installation.rollout_id != work.rollout.id


def prepare_unsubscribe(work: Work) -> Call | None:
    """Ask the vendor to stop sending; first to name the subscription, when that was never heard."""
    known = _subscription(work)
    installation = work.installation
    if known is None or installation is None or installation.connection_id is None:
        return None
    trigger = str(work.step.part_key)
    if "unsubscribe" not in rollout_calls.connector_of(installation).lifecycle:
        return None
    hook = {"url": address_of(work, known["source_id"])}
    if known.get("is_on"):
        return rollout_calls.prepare(work, "unsubscribe", hook=hook, part=trigger)
    if work.rollout.direction == "install" and _was_there(work):
        return rollout_calls.prepare(work, "subscribe", hook=hook, part=trigger)
    return None  # closing the account ends it too


def settle_unsubscribe(work: Work, outcome: Outcome | None) -> Result:
    """Close our door, whatever the vendor answered, unless it may answer better later."""
    known = _subscription(work)
    if outcome is not None and outcome.answer.kind != "ok":
        result = not_ok(work, outcome)
        if isinstance(result, Again):
            return result
    elif outcome is not None and known is not None and not known.get("is_on"):
        state = (outcome.answer.output or {}).get("state") or {}
        _change(work, {**known, "state": state, "is_on": True})
        return Again(rollout_words.say("recovering"), is_progress=True)
    give_up_unsubscribe(work)
    return Done(rollout_words.say("unsubscribed"))


def give_up_unsubscribe(work: Work) -> None:
    """Close our door for this trigger's news; closing the account takes care of the vendor's."""
    known = _subscription(work)
    if known is None or work.installation is None:
        return
    sources.close(work.session, work.organization_id, known["source_id"])
    if work.installation.source_id == known["source_id"]:
        work.installation.source_id = None
    _change(work, None)


def _change(work: Work, entry: Mapping[str, Any] | None) -> None:
    installation = work.installation
    assert installation is not None
    subscriptions = dict(installation.settings.get("subscriptions") or {})
    if entry is None:
        subscriptions.pop(str(work.step.part_key), None)
    else:
        subscriptions[str(work.step.part_key)] = dict(entry)
    installation.settings = {**installation.settings, "subscriptions": subscriptions}


# --- flows ---------------------------------------------------------------------------------------


def settle_unwire(work: Work, _outcome: Any) -> Result:
    """Delete the draft that an install had made; it has never run."""
    flow_id = work.kept("flow_id")
    if flow_id:
        flows.delete(work.session, work.organization_id, flow_id, force=True)
        work.keep(flow_id=None)
    return Done(rollout_words.say("undone"))


def settle_stop(work: Work, _outcome: Any) -> Result:
    """Stop the flows that cannot work any more; the bundle's own are put away for good."""
    stopped = 0
    own = set(work.kept("own_flow_ids") or ())
    for flow in _flows_touched(work, own):
        stopped += 1
        if flow.state == "active":
            flows.pause(work.session, work.organization_id, flow.id)
        if flow.id in own:
            # asked and confirmed: runs that still wait are cancelled, finished ones stay readable
            flows.delete(work.session, work.organization_id, flow.id, force=True)
    return Done(rollout_words.say("stopped", count=stopped))


def _flows_touched(work: Work, own: set[str]) -> list[Flow]:
    """Return the flows that use an app which is being removed, and the bundle's own."""
    found: dict[str, Flow] = {}
    for flow in flows.all_of(work.session, work.organization_id):
        if flow.id in own:
            found[flow.id] = flow
    for step in rollout_ends.steps_of(work.session, work.rollout):
        installation = step.installation_id and work.session.get(
            Installation, (work.organization_id, step.installation_id)
        )
        if step.kind == "release" and installation and installation.connection_id:
            for flow in connection_uses.flows_using(
                work.session, work.organization_id, installation.connection_id
            ):
                found[flow.id] = flow
    return list(found.values())


# --- the end ------------------------------------------------------------------------------------


def settle_remove(work: Work, _outcome: Any) -> Result:
    """Take the apps out of the toolbox."""
    for step in rollout_ends.steps_of(work.session, work.rollout):
        if step.installation_id is None:
            continue
        installation = work.session.get(Installation, (work.organization_id, step.installation_id))
        if installation is not None:
            rollout_ends.end_installation(work.session, installation)
    return Done(rollout_words.say("removed"))
