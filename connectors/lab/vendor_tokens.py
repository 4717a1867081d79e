"""The token door of a lab vendor: gives access tokens, knows when they end, and may end them early.

With the fault `expire_early` a token is said to last an hour and is refused after a moment, as it
happens when an app restarts or somebody signs in elsewhere.
"""

import secrets
import time
from collections.abc import Mapping
from typing import Any

from connectors.engine.connector import Connector
from connectors.lab.pointing import path_of
from connectors.lab.vendor_calls import Answer, Call, refusal
from connectors.lab.vendor_ledger import Ledger

LIFE_SECONDS = 3600


class TokenDoor:
    """Where one vendor's access tokens come from."""

    def __init__(self, connector: Connector, ledger: Ledger) -> None:
        """Find the paths at which the manifest asks for tokens."""
        self.ledger = ledger
        self.paths = {
            path_of(str(one.token["url"]))
            for one in connector.auth
            if one.token is not None and "url" in one.token
        }

    def is_asked(self, call: Call) -> bool:
        """Tell whether a call asks for a token."""
        return call.method == "POST" and call.path in self.paths

    def answer(self, call: Call, behaviour: Mapping[str, Any]) -> Answer:
        """Give a new token; refused when nobody says who asks."""
        if b"client_id=" not in call.raw and not call.headers.get("authorization"):
            raise refusal(401, "invalid_client", "Say who you are")
        token = "lab_" + secrets.token_urlsafe(18)
        is_early = behaviour.get("mode") == "expire_early"
        life = float(behaviour.get("seconds", 1)) if is_early else LIFE_SECONDS
        with self.ledger.lock:
            known = self.ledger.switch("tokens") or {}
            now = time.time()
            alive = {name: until for name, until in known.items() if until > now}
            self.ledger.set_switch("tokens", {**alive, token: now + life})
            self.ledger.keep("token", None, b"", 200, b"{}", None)
        body = {"access_token": token, "token_type": "Bearer", "expires_in": LIFE_SECONDS}
        return Answer(200, body, {"Cache-Control": "no-store"})

    def is_good(self, token: str) -> bool:
        """Tell whether a token was given here and has not ended."""
        until = (self.ledger.switch("tokens") or {}).get(token)
        return until is not None and until > time.time()
