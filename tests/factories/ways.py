"""Flows with more than one way: short words for their steps, and a shop that runs them."""

import json
from contextlib import contextmanager

from factories.connectors import make_connection, make_flow, ready, start_runs
from factories.identity import make_member, make_organization, make_user
from factories.webhooks import make_event

from connectors import advance, claims, recording
from connectors.approvals import Judge
from identity.tables import Organization, User
from kernel import clock
from kernel.database import EVERY, transaction
from webhooks.tables import Event


def send(key: str, text: str, chat: str = "CHAT", **more) -> dict:
    """A chat message."""
    return {
        "key": key,
        "kind": "action",
        "connector": "demo-chat",
        "connection": chat,
        "action": "post_message",
        "input": {"channel": "订单群", "text": text},
        **more,
    }


def shape(key: str, mapping) -> dict:
    """A data step."""
    return {"key": key, "kind": "map", "mapping": mapping}


def branch(key: str, *ways, otherwise=None) -> dict:
    """A branch; a way is (key, condition, steps)."""
    made = {
        "key": key,
        "kind": "branch",
        "ways": [{"key": name, "when": when, "steps": list(steps)} for name, when, steps in ways],
    }
    return made if otherwise is None else {**made, "else": list(otherwise)}


def each(key: str, over: str, *steps, **more) -> dict:
    """A loop."""
    return {"key": key, "kind": "each", "over": over, "steps": list(steps), **more}


def delay(key: str, **how) -> dict:
    """A delay, `{"for": "2h"}` or `{"until": "${…}"}`."""
    return {"key": key, "kind": "delay", **how}


def approval(key: str, subject: str = "付款", **more) -> dict:
    """An approval by the administrators."""
    return {
        "key": key,
        "kind": "approval",
        "subject": subject,
        "who": {"roles": ["admin"]},
        **more,
    }


class Works:
    """An organization with an ERP, a chat, people, and one flow of these steps."""

    def __init__(self, session, url: str, steps: list[dict], **trigger) -> None:
        self.organization_id = make_organization(session, name="明华五金").id
        self.erp = make_connection(session, self.organization_id, url).id
        self.chat = make_connection(
            session, self.organization_id, url, connector_key="demo-chat", name="群聊"
        ).id
        self.document = bound(
            {"trigger": {"event": "order.paid", "version": None, **trigger}, "steps": steps},
            self.erp,
            self.chat,
        )
        self.flow = make_flow(session, self.organization_id, self.document).id

    def happen(self, **data) -> str:
        """An event arrives and is routed; gives its id."""
        with transaction(EVERY) as session:
            event_id = make_event(
                session,
                self.organization_id,
                type="order.paid",
                subject=data.pop("subject", None),
                body=json.dumps(data).encode(),
            )
            session.flush()
            event = session.get(Event, (self.organization_id, event_id))
            # without a server nobody else routes what is before it
            event.state = "routed"
            session.flush()
            start_runs(session, [ready(event)])
        return event_id

    def person(self, role: str = "admin", name: str = "王主管") -> Judge:
        """A member as approvals know them."""
        with transaction(EVERY) as session:
            user = make_user(session, name=name)
            organization = session.get(Organization, self.organization_id)
            seat = make_member(session, organization, user, role)
            return Judge(user.id, seat.id, role, session.get(User, user.id).name)


def bound(node, erp: str, chat: str):
    """A document with the connections in place of ERP and CHAT."""
    if isinstance(node, dict):
        return {name: bound(value, erp, chat) for name, value in node.items()}
    if isinstance(node, list):
        return [bound(one, erp, chat) for one in node]
    return {"ERP": erp, "CHAT": chat}.get(node, node) if isinstance(node, str) else node


def open_works(url: str, *steps: dict, **trigger) -> Works:
    """Works in a transaction of its own."""
    with transaction(EVERY) as session:
        return Works(session, url, list(steps), **trigger)


def texts(target) -> list[str]:
    """What stands in the chat, in order."""
    return [one["text"] for one in target.messages()]


class Killed(BaseException):
    """The process is gone."""


@contextmanager
def killed_at(monkeypatch, commit: int, *, after: bool):
    """End the worker right before, or right after, its so manieth record of a round."""
    real, count = recording.record_and_take, 0

    def record(worker_id, movings, **how):
        nonlocal count
        if not movings:
            return real(worker_id, movings, **how)
        count += 1
        if count == commit and not after:
            raise Killed
        done = real(worker_id, movings, **how)
        if count == commit:
            raise Killed
        return done

    monkeypatch.setattr(recording, "record_and_take", record)
    try:
        yield
    finally:
        monkeypatch.setattr(recording, "record_and_take", real)


def die_often(monkeypatch, *, every: int = 1, after: bool) -> int:
    """Advance with a worker that dies at each `every`-th commit; gives how often it died."""
    deaths, ahead = 0, 1  # what was just routed is due by now, whoever read the clock
    while True:
        with clock.shifted(seconds=ahead), killed_at(monkeypatch, every, after=after):
            try:
                while advance.advance(f"wrk_{deaths}"):
                    pass
                return deaths
            except Killed:
                deaths += 1
                ahead += claims.LEASE_SECONDS + 1
        assert deaths < 200
