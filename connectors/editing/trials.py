"""Trials: what goes in and out of every step of a draft for one sample, and what to do if it fails.

Nothing is sent. Actions answer with the sample of their connector, and secrets are hidden.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlmodel import Session, col

from connectors import dry_runs, flow_paths, flow_trees, mapping_rows, masking, samples, seen
from connectors.dry_runs import Shown
from connectors.engine import flow_templates
from connectors.errors import Unfit
from connectors.field_paths import Offer
from kernel import documents, log
from kernel.errors import NotFound, Problem
from webhooks import events
from webhooks.tables import EVENT, Event

_logger = log.get_logger(__name__)
LAST_EVENTS = 5
MAX_PASTED = 64 * 1024  # characters
MAX_ITEMS = 50  # of each list of a sample: a draft is tried anew after each change
SAMPLE, PASTED = "sample", "pasted"
Say = Mapping[str, Any]


@dataclass(frozen=True)
class Choice:
    """A sample that may be tried: `event:<id>`, `template:<key>`, `sample` or `pasted`."""

    value: str
    kind: str  # event | template | sample | pasted
    title: Any = None
    at: datetime | None = None


@dataclass(frozen=True)
class Outcome:
    """How one step would go."""

    state: str  # succeeded | skipped | failed | not_reached
    input: Any = None
    output: Any = None
    is_sample: bool = False  # the output is what the connector gives as an example
    say: Say | None = None
    detail: str = ""
    todo: Say | None = None
    laps: int = 1  # how often it was done, of a step inside a loop


@dataclass(frozen=True)
class Trial:
    """A draft tried on one sample."""

    event: Mapping[str, Any]
    is_cut: bool = False  # its lists were longer than a trial goes through
    ok: bool = False
    say: Say | None = None
    steps: Mapping[int, Outcome] = field(default_factory=dict)  # by number


def choices(
    session: Session,
    organization_id: str,
    document: Mapping[str, Any],
    *,
    sees_events: bool,
) -> list[Choice]:
    """Return what a flow may be tried on: the last real events, templates, the type's sample."""
    trigger = document.get("trigger") or {}
    wanted = str(trigger.get("event") or "")
    found = [
        Choice(f"event:{one.id}", "event", one.subject or one.id, one.received_at)
        for one in (_last(session, organization_id, wanted) if wanted and sees_events else ())
    ]
    found += [
        Choice(f"template:{one.key}", "template", one.title)
        for one in flow_templates.all().values()
        if wanted and one.document["trigger"].get("event") == wanted
        if trigger.get("connector") in (None, "", one.document["trigger"].get("connector"))
    ][:5]
    return [*found, Choice(SAMPLE, "sample"), Choice(PASTED, "pasted")]


def _last(session: Session, organization_id: str, event_type: str) -> list[Event]:
    statement = events.listing(organization_id, event_type=event_type)
    statement = statement.where(EVENT.c.state.not_in(("rejected", "quarantined")))
    statement = statement.order_by(col(Event.id).desc()).limit(LAST_EVENTS)
    return list(session.execute(statement).scalars())


def event_of(
    session: Session,
    organization_id: str,
    document: Mapping[str, Any],
    chosen: str,
    *,
    pasted: str = "",
    template_key: str | None = None,
    sees_events: bool,
) -> dict[str, Any]:
    """Return the event of a choice; the usual sample where it is gone or cannot be read.

    Raises Unfit for a pasted text that is no event.
    """
    kind, _, key = chosen.partition(":")
    if kind == "event" and sees_events:
        try:
            return dict(seen.seen_as(events.get(session, organization_id, key)))
        except Problem:
            pass  # it went to the archive meanwhile, or is no JSON: the usual sample stands in
    template = flow_templates.all().get(key) if kind == "template" else None
    if template is not None:
        return dict(template.sample)
    if kind == PASTED and pasted.strip():
        return read_pasted(pasted)
    # "" is the key of no template: the usual sample is that of the app, else of the event type
    usual = "" if kind == SAMPLE else template_key
    return samples.event_for(session, organization_id, document, usual)


def read_pasted(text: str) -> dict[str, Any]:
    """Read an event or its data that somebody pasted as JSON or YAML; raises Unfit."""
    if len(text) > MAX_PASTED:
        raise Unfit([{"pointer": "/pasted", "say": _TOO_LONG}])
    try:
        value = documents.parse(text.encode()) if text.lstrip()[:1] == "{" else None
    except Problem:
        value = None
    if value is None:
        try:
            value = mapping_rows.read_yaml(text)
        except Unfit as bad:
            raise Unfit([{"pointer": "/pasted", "say": bad.findings[0]["say"]}]) from bad
    if not isinstance(value, dict):
        raise Unfit([{"pointer": "/pasted", "say": _NO_OBJECT}])
    return value if isinstance(value.get("data"), dict) else {"data": value}


def try_on(
    session: Session, organization_id: str, document: Mapping[str, Any], event: Mapping[str, Any]
) -> Trial:
    """Take a draft through a sample; a draft that cannot be tried at all says why."""
    short, is_cut = _shortened(event)
    event = {**event, **short} if isinstance(short, dict) else event
    try:
        run = dry_runs.dry_run(session, organization_id, document, event)
    except NotFound:
        return Trial(event, is_cut=is_cut)
    except Unfit as bad:
        say = bad.findings[0]["say"] if bad.findings else None
        return Trial(event, is_cut=is_cut, say=say)
    except Exception:  # a draft is unfinished by nature: what it lacks must not shut the editor
        _logger.exception("trial_broke")
        return Trial(event, is_cut=is_cut, say=_BROKE)
    by_number: dict[int, list[Shown]] = {}
    for one in run.steps:
        by_number.setdefault(flow_paths.step_of(one.position), []).append(one)
    steps = {
        number: _outcome(shown, _written(document, number)) for number, shown in by_number.items()
    }
    return Trial(event, is_cut, run.ok, run.say, steps)


def _shortened(value: Any) -> tuple[Any, bool]:
    """Return a value with no more items in its lists than a trial goes through; whether it was."""
    if isinstance(value, Mapping):
        parts = {name: _shortened(one) for name, one in value.items()}
        cut = any(is_cut for _, is_cut in parts.values())
        return {name: one for name, (one, _) in parts.items()}, cut
    if isinstance(value, list):
        items = [_shortened(one) for one in value[:MAX_ITEMS]]
        cut = len(value) > MAX_ITEMS or any(is_cut for _, is_cut in items)
        return [one for one, _ in items], cut
    return value, False


def _written(document: Mapping[str, Any], number: int) -> Mapping[str, Any]:
    return flow_trees.walk(document)[number].step


def _outcome(shown: Sequence[Shown], step: Mapping[str, Any]) -> Outcome:
    """Return how a step went: of one inside a loop the item that failed, else the first."""
    one = next((each for each in shown if each.state == "failed"), shown[0])
    problem = one.problem or {}
    return Outcome(
        state=one.state if one.state in STATES else "succeeded",
        input=one.input,
        output=one.output,
        is_sample=step.get("kind") == "action" and one.output is not None,
        say=problem.get("say"),
        detail=str(problem.get("detail") or ""),
        todo=_TODO.get(str(problem.get("cause") or ""), _TODO["data"])
        if one.state == "failed"
        else None,
        laps=len(shown),
    )


# --- values of fields ----------------------------------------------------------------------------


class Values:
    """What the sample has at the fields that expressions may read."""

    def __init__(self, trial: Trial, document: Mapping[str, Any]) -> None:
        """Collect what the trial brought to light, without what is secret."""
        self._places = flow_trees.walk(document)
        self._roots: dict[str, Any] = {"event.data": masking.show(trial.event.get("data"))}
        for place in self._places:
            outcome = trial.steps.get(place.number)
            if outcome is not None and outcome.output is not None:
                self._roots[f"steps.{place.step['key']}.output"] = outcome.output

    def at(self, offer: Offer) -> tuple[bool, Any]:
        """Return whether the sample has a value there that is not null, and the value."""
        root = offer.root
        if root == "item":
            known, value = self._item(offer.origin)
        else:
            known, value = root in self._roots, self._roots.get(root)
        return (known and value is not None, value) if not offer.path else _follow(value, offer)

    def knows(self, offer: Offer) -> bool:
        """Tell whether the sample says anything about what an offer reads from."""
        return offer.root in self._roots or (offer.root == "item" and self._item(offer.origin)[0])

    def _item(self, loop_key: str) -> tuple[bool, Any]:
        """Return the first item of a loop's list."""
        loop = next((one.step for one in self._places if one.step["key"] == loop_key), {})
        text = str(loop.get("over") or "").removeprefix("${").removesuffix("}")
        for root, value in self._roots.items():
            if text.startswith(f"{root}."):
                found = value
                for name in text.removeprefix(f"{root}.").split("."):
                    found = found.get(name) if isinstance(found, dict) else None
                return (True, found[0]) if isinstance(found, list) and found else (False, None)
        return False, None


def _follow(value: Any, offer: Offer) -> tuple[bool, Any]:
    for name in offer.path:
        if not isinstance(value, dict) or name not in value:
            return False, None
        value = value[name]
    return value is not None, value


STATES = ("succeeded", "skipped", "failed", "not_reached")
_BROKE = {
    "zh": "这份草稿还不能试；请先填完下面列出的内容",
    "en": "This draft cannot be tried yet; please fill in what is listed first",
}
_TOO_LONG = {
    "zh": "样例太长，请只贴一个事件（最多 64 KB）",
    "en": "The sample is too long; paste a single event of 64 KB at most",
}
_NO_OBJECT = {
    "zh": '样例要写成一个对象，例如 {"order_no": "A-1"}',
    "en": 'A sample is written as an object, such as {"order_no": "A-1"}',
}
_TODO: dict[str, Say] = {
    "config": {
        "zh": "请在这一步选好连接和动作。",
        "en": "Choose the connection and the action of this step.",
    },
    "auth": {
        "zh": "请到“连接”页更新这个应用的登录信息。",
        "en": "Renew the credentials of this app under “Connections”.",
    },
    "data": {
        "zh": "请改这一步的字段来源，或换一个样例再看。",
        "en": "Change where this step's fields come from, or look at another sample.",
    },
}
