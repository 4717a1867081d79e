"""Offline tests of a connector folder: its fixtures played like cassettes, and probes of our own.

A fixture holds what is sent and what comes back; the engine builds the one and reads the other, and
nothing leaves the machine. Probes are answers that every app gives some day, read by every action.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from connectors.engine import answers, deliveries, fixture_answers, fixtures, triggers
from connectors.engine.check import Folder
from connectors.engine.connector import Action, Trigger
from connectors.engine.findings import EngineError, Finding, say
from connectors.engine.fixtures import Fixture
from connectors.lab import vendor_signing
from kernel import clock, documents
from kernel.errors import Problem
from kernel.http import Failure, Response
from webhooks import signing
from webhooks.recipes import Refused
from webhooks.recipes.reading import Given

PAGE = b"<!doctype html><title>502</title><p>Sorry"
HTML = {"content-type": "text/html; charset=utf-8"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one fixture or probe: nothing found means that it holds."""

    name: str
    findings: tuple[Finding, ...] = ()

    @property
    def is_ok(self) -> bool:
        """Tell whether it holds."""
        return not self.findings


@dataclass(frozen=True, slots=True)
class Probe:
    """An answer any app may give, and the kinds and causes of reading it that are sound."""

    name: str
    outcome: Response | Failure
    kinds: frozenset[str]
    causes: frozenset[str | None]


def run(path: Path) -> list[Outcome]:
    """Play every fixture of a folder and put every probe to every action; raises loader.Unfit."""
    folder = Folder(path.resolve())
    played = [Outcome(one.file, (one,)) for one in folder.broken_fixtures]
    played += [Outcome(one.name, tuple(play(folder, one))) for one in folder.fixtures]
    probed = [
        Outcome(f"{key} · {probe.name}", tuple(put(folder, action, probe)))
        for key, action in folder.connector.actions.items()
        for probe in probes(folder, key)
    ]
    sent = [
        Outcome(f"{key} · {name}", tuple(found))
        for key, trigger in folder.connector.triggers.items()
        for name, found in deliver(folder, trigger)
    ]
    return [*played, *gaps(folder), *probed, *sent]


def deliver(folder: Folder, trigger: Trigger) -> Iterator[tuple[str, list[Finding]]]:
    """Sign a trigger's sample as its app would; give what is wrong with taking it, and forgeries.

    A recipe cannot be run backwards: there the fixtures hold what is genuine, and are forged here.
    """
    scheme = trigger.verify["scheme"]
    if deliveries.uses_recipe(trigger):
        yield from _forge(folder, trigger)
        return
    if scheme not in vendor_signing.PLAIN or scheme == "none":
        return
    connector, secret, now = folder.connector, vendor_signing.secret_for(trigger), clock.now()
    headers, raw = triggers.sample_delivery(connector, trigger.key)
    signed = {**headers, **vendor_signing.seal(trigger, headers, raw, secret, now)}
    yield "signed", _judged(folder, trigger, signed, raw, secret, is_genuine=True)
    if scheme != "token":  # a token vouches for the sender, not for what is sent
        altered = raw[:-1] + b" " + raw[-1:]
        yield "altered", _judged(folder, trigger, signed, altered, secret, is_genuine=False)
    other = vendor_signing.seal(trigger, headers, raw, secret[::-1], now)
    stranger = {**headers, **(other if "secret_encoding" not in _options(trigger) else {})}
    yield "forged", _judged(folder, trigger, stranger, raw, secret, is_genuine=False)
    yield "unsigned", _judged(folder, trigger, headers, raw, secret, is_genuine=False)


def _forge(folder: Folder, trigger: Trigger) -> Iterator[tuple[str, list[Finding]]]:
    """Put a recorded genuine delivery again: by somebody with other secrets, and without proof."""
    for one in folder.fixtures:
        if one.kind != "trigger" or one.key != trigger.key or not one.value.get("events"):
            continue
        value = one.value
        genuine, around = deliveries.of_fixture(value), deliveries.around_of(value)
        filled = {name: str(text) for name, text in value.get("filled", {}).items()}
        other = Given({name: text[::-1] + "x" for name, text in filled.items()})
        tries = [("forged", genuine, other)]
        steps = documents.dump(_options(trigger).get("steps", []))
        if b"${header." in steps or b"${query." in steps:  # else the proof stands in the body
            bare = replace(genuine, query=b"", header={"content-type": "application/json"})
            tries.append(("unsigned", bare, Given(filled)))
        for name, delivery, given in tries:
            try:
                deliveries.read(trigger, delivery, given, around)
            except (Refused, EngineError):
                yield name, []
            else:
                at = f"/triggers/{trigger.key}/verify"
                zh, en = f"{trigger.key}：伪造的消息被接受", f"{trigger.key}: a forgery is taken"
                yield name, [folder.finding("T03", zh, en, at)]
        return


def _options(trigger: Trigger) -> Mapping[str, Any]:
    stated: Mapping[str, Any] = trigger.verify.get("options", {})
    return stated


def _judged(
    folder: Folder,
    trigger: Trigger,
    headers: Mapping[str, str],
    raw: bytes,
    secret: str,
    *,
    is_genuine: bool,
) -> list[Finding]:
    config = triggers.source_config(folder.connector, trigger.key)
    lower = {name.lower(): value for name, value in headers.items()}
    scheme, options = config["scheme"], config["scheme_options"]
    try:
        signing.verify(scheme, raw, lower, [secret], options, clock.now())
        is_taken = True
    except Problem:
        is_taken = False
    if is_taken is is_genuine:
        return []
    zh, en = ("真的消息被拒绝", "A genuine delivery is refused")
    if is_taken:
        zh, en = ("伪造的消息被接受", "A forged delivery is taken")
    at = f"/triggers/{trigger.key}/verify"
    return [folder.finding("T03", f"{trigger.key}：{zh}", f"{trigger.key}: {en}", at)]


def gaps(folder: Folder) -> list[Outcome]:
    """Return what no fixture shows yet: how this app refuses credentials and asks for patience."""
    connector = folder.connector
    if not connector.actions:
        return []
    wanted = ["limit"]
    if any(one.kind != "none" for one in connector.auth):
        wanted.insert(0, "auth")
    return [
        Outcome(
            f"fixtures · {cause}",
            (
                folder.finding(
                    "T02",
                    f"没有样例显示“{_WORDS[cause][0]}”时应用怎样回答",
                    f"No fixture shows what the app answers with {_WORDS[cause][1]}",
                    "/actions",
                ),
            )
            if _recorded(folder, "", cause) is None
            else (),
        )
        for cause in wanted
    ]


def play(folder: Folder, fixture: Fixture) -> list[Finding]:
    """Return how a fixture departs from what the engine builds and reads."""
    connector, key = folder.connector, fixture.key
    known = {
        "action": connector.actions,
        "trigger": connector.triggers,
        "lifecycle": connector.lifecycle,
        "reconcile": connector.triggers,
        "token": {one.id: one for one in connector.auth},
    }
    is_look = fixture.kind == "reconcile"
    if key not in known.get(fixture.kind, (key,)) or (
        is_look and fixtures.reconcile_of(connector, fixture) is None
    ):
        text = say(f"没有 {fixture.kind} {key}", f"There is no {fixture.kind} {key}")
        return [fixture.finding("C04", text, f"/{fixture.kind}")]
    if fixture.kind == "trigger":
        return fixtures.check_delivery(connector, fixture)
    reading = fixtures.check_look if is_look else fixture_answers.check_answer
    reading = fixtures.check_token if fixture.kind == "token" else reading
    return fixtures.check_request(connector, fixture) + reading(connector, fixture)


def probes(folder: Folder, action_key: str) -> tuple[Probe, ...]:
    """Return the answers an action must read soundly, the app's own refusals among them."""
    auth = _recorded(folder, action_key, "auth") or _plain(401)
    limit = _recorded(folder, action_key, "limit") or _plain(429, {"retry-after": "30"})
    unread = (
        frozenset({"ok", "fail", "retry"}),
        frozenset({None, "config", "data", "down", "unknown"}),
    )
    lost = (frozenset({"retry", "fail"}), frozenset({"down", "unknown"}))
    return (
        Probe("auth", auth, frozenset({"reauth", "fail"}), frozenset({"auth"})),
        Probe("limit", limit, frozenset({"retry"}), frozenset({"limit"})),
        Probe("html", _plain(200, HTML, PAGE), *unread),
        Probe("half", _plain(200, {}, b'{"id": 1, "na'), *unread),
        Probe("timeout", Failure("timeout", "15 s"), *lost),
    )


def _plain(status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Response:
    return Response(status, headers or {}, body, truncated=False, elapsed_ms=1)


def _recorded(folder: Folder, action_key: str, cause: str) -> Response | None:
    """Return a recorded answer that is read as a cause, of this action before all others."""
    found: list[Response] = []
    for fixture in folder.fixtures:
        if fixture.kind not in ("action", "lifecycle") or "response" not in fixture.value:
            continue
        outcome = fixtures.outcome_of(fixture)
        if fixture.value.get("answer", {}).get("cause") == cause and isinstance(outcome, Response):
            found.insert(0 if fixture.key == action_key else len(found), outcome)
    return found[0] if found else None


def put(folder: Folder, action: Action, probe: Probe) -> Iterator[Finding]:
    """Put one probe to one action; gives what is unsound about how it is read."""
    answer = answers.read(folder.connector, action.key, probe.outcome)
    kind, cause = answer.kind, answer.cause
    is_sound = kind in probe.kinds and cause in probe.causes
    if probe.name == "timeout" and kind == "retry":
        is_sound = action.is_idempotent
    if not is_sound:
        zh, en = _WORDS[probe.name]
        at = f"/actions/{action.key}"
        yield folder.finding(
            "T01",
            f"动作 {action.key} 把“{zh}”读作 {kind}（{cause}），请补充 errors 规则",
            f"The action {action.key} reads “{en}” as {kind} ({cause}); add a rule under errors",
            at,
        )


_WORDS = {
    "auth": ("凭据被拒绝", "credentials refused"),
    "limit": ("调用太频繁", "too many calls"),
    "html": ("用网页代替 JSON 回答", "a web page instead of JSON"),
    "half": ("只有一半的 JSON", "half a JSON document"),
    "timeout": ("超时", "a timeout"),
}
