"""The token door of a lab vendor: gives access tokens, knows when they end, and may end them early.

With the fault `expire_early` a token is said to last as long as ever and is refused after a moment,
as it happens when an app restarts or somebody signs in elsewhere. What a token's answer looks like
is taken from the fixtures of the way to sign in, else from what the manifest reads of it.
"""

import copy
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from connectors.engine import fixtures, requests
from connectors.engine.connector import Auth, Connector, TokenStep
from connectors.lab import vendor_looks
from connectors.lab.pointing import path_of
from connectors.lab.vendor_calls import Answer, Call, refusal
from connectors.lab.vendor_ledger import Ledger

LIFE_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Door:
    """One request for a token: where it is made, and a body that is read as an answer."""

    method: str
    path: str
    save: Mapping[str, Any]
    status: int
    body: Any


class TokenDoors:
    """Where one vendor's access tokens come from."""

    def __init__(self, connector: Connector, ledger: Ledger) -> None:
        """Find the addresses at which the manifest asks for tokens."""
        self.ledger = ledger
        self.doors = [
            _door(connector, way, number, step)
            for way in connector.auth
            for number, step in enumerate((*requests.token_steps(way), *way.refresh), 1)
        ]

    def find(self, call: Call) -> Door | None:
        """Return the door a call knocks at."""
        for door in self.doors:
            if (door.method, door.path) == (call.method, call.path):
                return door
        return None

    def answer(self, door: Door, call: Call, behaviour: Mapping[str, Any]) -> Answer:
        """Give a new token; refused when nobody says who asks."""
        if not (call.raw or call.query or call.headers.get("authorization")):
            raise refusal(401, "invalid_client", "Say who you are")
        token = "lab_" + secrets.token_urlsafe(18)
        is_early = behaviour.get("mode") == "expire_early"
        self.admit(token, float(behaviour.get("seconds", 1)) if is_early else LIFE_SECONDS)
        body = copy.deepcopy(door.body)
        for text in door.save.values():
            steps = vendor_looks.place(text) if isinstance(text, str) else ()
            if steps:
                vendor_looks.put(body, steps, token)
        with self.ledger.lock:
            self.ledger.keep("token", None, b"", door.status, b"{}", None)
        return Answer(door.status, body, {"Cache-Control": "no-store"})

    def admit(self, token: str, seconds: float = LIFE_SECONDS) -> None:
        """Let a token be good for so long."""
        with self.ledger.lock:
            now = time.time()
            known = self.ledger.switch("tokens") or {}
            alive = {name: until for name, until in known.items() if until > now}
            self.ledger.set_switch("tokens", {**alive, token: now + seconds})

    def is_good(self, token: str) -> bool:
        """Tell whether a token was given here and has not ended."""
        until = (self.ledger.switch("tokens") or {}).get(token)
        return until is not None and until > time.time()


def _door(connector: Connector, way: Auth, number: int, step: TokenStep) -> Door:
    stated_save = step.save["object"]["save"]
    inner = {
        name: text.get("optional") if isinstance(text, Mapping) else text
        for name, text in stated_save.get("object", stated_save).items()
    }
    request = step.request
    path = path_of(request.url) if request.url else request.path
    for fixture in fixtures.load(connector.folder)[0]:
        is_same = fixture.kind == "token" and fixture.key == way.id
        stated = fixture.value.get("response", {})
        is_good = fixture.value.get("answer", {}).get("kind", "ok") == "ok" and "json" in stated
        if is_same and is_good and int(fixture.value.get("step", 1)) == number:
            return Door(request.method, path, inner, stated.get("status", 200), stated["json"])
    body: dict[str, Any] = {"token_type": "Bearer", "expires_in": LIFE_SECONDS}
    return Door(request.method, path, inner, 200, body)
