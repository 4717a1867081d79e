"""What each kind of step does: the way forward of an install."""

from collections.abc import Mapping
from typing import Any

from sqlmodel import col, select

from catalog.tables import App, Listing
from connectors import connection_checks, dry_runs, flows, triggers_in
from connectors.engine import flow_templates
from connectors.tables import Connection
from kernel.database import store_now
from kernel.rows import insert_ignore
from marketplace import rollout_calls, rollout_ends, rollout_undo, rollout_words
from marketplace.rollout_calls import Outcome
from marketplace.rollout_kinds import Again, Call, Done, Kind, Refused, Result, Work
from marketplace.tables import Installation, RolloutStep
from webhooks import sources

# --- validate ----------------------------------------------------------------------------------


def _settle_validate(work: Work, _outcome: Any) -> Result:
    """Take a place in the toolbox for every app, unless it is there already."""
    taken = 0
    for step in rollout_ends.steps_of(work.session, work.rollout):
        if step.kind != "provision":
            continue
        problem = _take_place(work, step)
        if problem is not None:
            return Refused(problem)
        taken += 1
    return Done(rollout_words.say("checked", count=taken))


def _take_place(work: Work, step: RolloutStep) -> dict[str, str] | None:
    """Make the installation that this app's steps fill, or point them at the one that is there."""
    plan = step.state_kept or {}
    app = work.session.execute(
        select(App, Listing)
        .outerjoin(Listing, col(Listing.app_id) == col(App.id))
        .where(col(App.key) == step.app_key)
    ).first()
    if app is None or (app[1] is not None and app[1].state != "published"):
        reason = {"zh": "它已下架。", "en": "It was taken off the shelf."}
        return rollout_words.problem("not_installable", reason=reason)
    row = {
        "organization_id": work.organization_id,
        "id": plan["installation_id"],
        "created_at": store_now(work.session),
        "app_key": step.app_key,
        "live_key": step.app_key,
        "release_id": plan.get("release_id"),
        "kind": "hub",
        "title": app[0].name,
        "slot": plan.get("slot"),
        "state": "installing",
        "settings": {"connector": plan["connector"], "connection": plan["connection"]},
        "bundle_key": work.rollout.bundle_key,
        "rollout_id": work.rollout.id,
    }
    if insert_ignore(work.session, Installation, [row], ["organization_id", "live_key"]):
        return None
    there = work.session.execute(
        Installation.of(work.organization_id).where(col(Installation.live_key) == step.app_key)
    ).scalar_one()
    if there.id == plan["installation_id"]:
        return None  # made by an earlier try of this very step
    if there.state != "active":
        return rollout_words.problem("already_there", app=app[0].name)
    for other in rollout_ends.steps_of(work.session, work.rollout):
        if other.installation_id == plan["installation_id"]:
            other.installation_id = there.id
            if other.kind in ("provision", "connect"):
                other.state, other.say = "skipped", rollout_words.say("reused")
    return None


# --- provision ---------------------------------------------------------------------------------


def _prepare_provision(work: Work) -> Call:
    """Ask the vendor for an account; from here on one may exist."""
    # what was known before this try: a try that never left changes nothing about it
    work.keep(before=work.kept("outcome", "none"), outcome="unknown")
    return rollout_calls.prepare(work, "install")


def _settle_provision(work: Work, outcome: Outcome) -> Result:
    """Store what the vendor gave us: its secrets go straight into a connection's vault."""
    result = rollout_undo.take_account(work, outcome)
    if result is not None:
        return result
    account = work.installation.account if work.installation else None
    if account:
        return Done(rollout_words.say("opened", account=account))
    return Done(rollout_words.say("opened_plain"))


# --- connect -----------------------------------------------------------------------------------


def _prepare_connect(work: Work) -> Call:
    """Test the connection with a cheap authenticated read."""
    assert work.installation is not None
    organization_id, connection_id = work.organization_id, work.installation.connection_id
    assert connection_id is not None
    return lambda: connection_checks.test(organization_id, connection_id)


def _settle_connect(_work: Work, outcome: Connection) -> Result:
    if outcome.state == "ready" and not outcome.problem:
        return Done(rollout_words.say("connected"))
    problem = outcome.problem or {}
    reason = problem.get("say") or {"zh": "对方没有接受。", "en": "The vendor did not accept it."}
    words = rollout_words.problem("connection_failed", reason=reason)
    if problem.get("cause") in ("down", "limit", "unknown"):
        return Again(reason, problem=words)
    return Refused(words)


# --- subscribe ---------------------------------------------------------------------------------


def _prepare_subscribe(work: Work) -> Call | None:
    """Open our door for this trigger's news, then tell the vendor its address."""
    installation = work.installation
    assert installation is not None
    trigger = str(work.step.part_key)
    subscriptions = installation.settings.get("subscriptions") or {}
    if any(one.get("is_on") for one in subscriptions.values()):
        return None  # an app that was there already sends its news
    known = subscriptions.get(trigger)
    connection = rollout_calls.connection_of(work.session, installation)
    assert connection is not None
    if known:
        opened_url = rollout_undo.address_of(work, known["source_id"])
    else:
        opened = triggers_in.open_source(work.session, connection, trigger)
        opened_url = opened.url
        _remember(installation, trigger, {"source_id": opened.source_id, "state": {}})
        installation.source_id = installation.source_id or opened.source_id
        work.keep(is_ours=True)
    return rollout_calls.prepare(work, "subscribe", hook={"url": opened_url}, part=trigger)


def _remember(installation: Installation, trigger: str, entry: Mapping[str, Any]) -> None:
    subscriptions = dict(installation.settings.get("subscriptions") or {})
    subscriptions[trigger] = {**subscriptions.get(trigger, {}), **entry}
    installation.settings = {**installation.settings, "subscriptions": subscriptions}


def _settle_subscribe(work: Work, outcome: Outcome | None) -> Result:
    if outcome is None:
        return Done(rollout_words.say("reused"), is_skipped=True)
    answer = outcome.answer
    if answer.kind != "ok":
        return rollout_undo.not_ok(work, outcome)
    assert work.installation is not None
    trigger = str(work.step.part_key)
    output = answer.output or {}
    secret = output.get("hook_secret")
    if secret:
        source_id = work.installation.settings["subscriptions"][trigger]["source_id"]
        sources.rotate_secret(work.session, work.organization_id, source_id, secret)
    _remember(work.installation, trigger, {"state": output.get("state") or {}, "is_on": True})
    return Done(rollout_words.say("subscribed"))


# --- wire, test, activate ------------------------------------------------------------------------


def _connections_of(work: Work) -> dict[str, str]:
    """Return connector key → connection id over the rollout's apps."""
    found: dict[str, str] = {}
    for step in rollout_ends.steps_of(work.session, work.rollout):
        if step.kind != "provision" or step.installation_id is None:
            continue
        installation = work.session.get_one(
            Installation, (work.organization_id, step.installation_id)
        )
        if installation.connection_id:
            found[str(installation.settings["connector"])] = installation.connection_id
    return found


def _settle_wire(work: Work, _outcome: Any) -> Result:
    """Build the flow as a draft: nothing runs before all trials have passed."""
    if not work.kept("flow_id"):
        template = flow_templates.all()[str(work.step.part_key)]
        flow = flows.create_from_template(
            work.session,
            work.organization_id,
            template.key,
            _connections_of(work),
            installation_id=work.step.installation_id,
        )
        work.keep(flow_id=flow.id)
    return Done(rollout_words.say("wired"))


def _flow_id(work: Work) -> str:
    """Return the flow that the wire step of the same recipe made."""
    for step in rollout_ends.steps_of(work.session, work.rollout):
        if step.kind == "wire" and step.part_key == work.step.part_key:
            return str(step.state_kept["flow_id"])
    raise LookupError(work.step.part_key)


def _settle_test(work: Work, _outcome: Any) -> Result:
    """Run the flow over its recipe's sample without sending anything."""
    template = flow_templates.all()[str(work.step.part_key)]
    flow = flows.find(work.session, work.organization_id, _flow_id(work))
    trial = dry_runs.dry_run(
        work.session, work.organization_id, flows.document_of(work.session, flow), template.sample
    )
    reason = _trial_problem(trial)
    if reason is None:
        return Done(rollout_words.say("tested"))
    return Refused(rollout_words.problem("trial_failed", part=template.title, reason=reason))


def _trial_problem(trial: Any) -> Mapping[str, str] | None:
    if trial.ok:
        return None
    return trial.say or {"zh": "结果与预期不符。", "en": "The result is not what was expected."}


def _settle_activate(work: Work, _outcome: Any) -> Result:
    """Publish the flows and put the apps into the toolbox, all in one commit."""
    session, rollout = work.session, work.rollout
    now = store_now(session)
    steps = rollout_ends.steps_of(session, rollout)
    for step in steps:
        if step.kind == "wire":
            flows.publish(
                session,
                work.organization_id,
                str(step.state_kept["flow_id"]),
                published_by=rollout.requested_by,
            )
    for step in steps:
        if step.kind != "provision" or step.installation_id is None:
            continue
        installation = session.get_one(Installation, (work.organization_id, step.installation_id))
        if installation.state == "installing":
            installation.state, installation.installed_at = "active", now
            rollout_ends.tell(session, installation, "installation.created")
    return Done(rollout_words.say("activated"))


# --- the table -----------------------------------------------------------------------------------

KINDS: Mapping[str, Kind] = {
    "validate": Kind("validating", _settle_validate, budget_seconds=2),
    "provision": Kind(
        "provisioning",
        _settle_provision,
        _prepare_provision,
        budget_seconds=5,
        undo_prepare=rollout_undo.prepare_release,
        undo_settle=rollout_undo.settle_release,
        give_up=rollout_undo.give_up_release,
    ),
    "connect": Kind("connecting", _settle_connect, _prepare_connect, budget_seconds=5),
    "subscribe": Kind(
        "subscribing",
        _settle_subscribe,
        _prepare_subscribe,
        budget_seconds=5,
        undo_prepare=rollout_undo.prepare_unsubscribe,
        undo_settle=rollout_undo.settle_unsubscribe,
        give_up=rollout_undo.give_up_unsubscribe,
    ),
    "wire": Kind(
        "wiring",
        _settle_wire,
        budget_seconds=2,
        undo_settle=rollout_undo.settle_unwire,
    ),
    "test": Kind("testing", _settle_test, budget_seconds=2),
    "activate": Kind("testing", _settle_activate, budget_seconds=2),
    # an uninstall walks forward over what an install's undo does backward
    "stop": Kind("compensating", rollout_undo.settle_stop, budget_seconds=2),
    "unsubscribe": Kind(
        "compensating",
        rollout_undo.settle_unsubscribe,
        rollout_undo.prepare_unsubscribe,
        budget_seconds=5,
        give_up=rollout_undo.give_up_unsubscribe,
    ),
    "release": Kind(
        "compensating",
        rollout_undo.settle_release,
        rollout_undo.prepare_release,
        budget_seconds=5,
        give_up=rollout_undo.give_up_release,
    ),
    "remove": Kind("compensating", rollout_undo.settle_remove, budget_seconds=2),
}
