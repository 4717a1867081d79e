"""Reading a manifest's ways to sign in: fields, placements, token steps, signatures, consent."""

from collections.abc import Callable, Mapping
from typing import Any

from connectors.engine.connector import (
    Auth,
    Authorize,
    Envelope,
    ErrorRule,
    Expires,
    Field,
    Identity,
    Placement,
    RawBody,
    RequestTemplate,
    Sign,
    TokenStep,
)
from connectors.engine.findings import say
from connectors.engine.lines_open import Stream
from kernel import documents

EARLY_SECONDS = 60
UNITS = ("in_seconds", "at_ms", "at_seconds", "at")
DEAD = say(
    "对方不再认可这次授权，请重新登录授权",
    "The app no longer accepts the consent; please sign in there again",
)
_DEAD_BY_STANDARD = (
    {"body.error": ["invalid_grant", "invalid_client", "unauthorized_client"]},
    {"status": 401},
)
_SAVE = {"access": "${body.access_token}"}
_SAVE_GRANT = {**_SAVE, "refresh": {"optional": "${body.refresh_token}"}}
_IN_SECONDS = {"in_seconds": "${int(body.expires_in)}"}
_LAX_IN_SECONDS = {"value": "${int(body.expires_in)}", "default": 3600}

# How the loader reads a request, an envelope and error rules of a part of the manifest.
Readers = tuple[
    Callable[[dict[str, Any]], RequestTemplate],
    Callable[[dict[str, Any]], Envelope],
    Callable[[dict[str, Any]], tuple[ErrorRule, ...]],
]


def auth(one: Mapping[str, Any], readers: Readers) -> Auth:
    """Return one way to sign in as the manifest states it."""
    kind, apply, token = one["kind"], one.get("apply", {}), one.get("token")
    place = placement(apply)
    steps = _steps(one, token, readers)
    refresh = one.get("refresh") or {}
    code = kind == "oauth2_code"
    early = {**(token or {}), **refresh}.get("early_seconds", EARLY_SECONDS)
    return Auth(
        id=one["id"],
        kind=kind,
        title=one["title"],
        fields=_fields(one.get("fields", {})) or _usual_fields(kind),
        headers=place.headers or (_BEARER if code and not _is_placed(apply) else {}),
        query=place.query,
        token=token if kind == "oauth2_client" else None,
        form=place.form,
        json=place.json,
        at={name: placement(stated) for name, stated in apply.get("at", {}).items()},
        steps=steps,
        early_seconds=early,
        keepalive_hours=refresh.get("keepalive_hours", 24),
        sign=sign(one["sign"], one.get("before", {})) if "sign" in one else None,
        authorize=_authorize(one["authorize"]) if "authorize" in one else None,
        refresh=_refresh(one, readers) if "refresh" in one else (),
        identity=_identity(one["identity"], readers) if "identity" in one else None,
        confidence=one.get("confidence", "documented"),
        source=one.get("source"),
    )


_BEARER = {"Authorization": "Bearer ${token.access}"}


def client_steps(token: Mapping[str, Any]) -> tuple[TokenStep, ...]:
    """Return the request of client credentials (RFC 6749, 4.4)."""
    form: dict[str, Any] = {"grant_type": "client_credentials"}
    if "scope" in token:
        form["scope"] = token["scope"]
    return (_standard(token, form, _SAVE, _LAX_IN_SECONDS),)


def placement(stated: Mapping[str, Any]) -> Placement:
    """Return where texts go: header, query, form and json of a part of the manifest."""
    return Placement(
        stated.get("header", {}),
        stated.get("query", {}),
        stated.get("form", {}),
        stated.get("json", {}),
    )


def sign(stated: Mapping[str, Any], before: Mapping[str, Any]) -> Sign:
    """Return how requests are signed; steps up to the first that reads the request go first."""
    steps = list(stated["steps"])
    split = next((n for n, step in enumerate(steps) if reads_request(step)), len(steps))
    return Sign(
        first=tuple(steps[:split]),
        before=placement(before),
        then=tuple(steps[split:]),
        put=placement(stated["put"]),
    )


def reads_request(step: Mapping[str, Any]) -> bool:
    """Tell whether a step of a recipe looks at the request that is to be signed."""
    text = documents.dump(step).decode()
    return '"request.' in text or "${request." in text


def raw_body(request: Mapping[str, Any]) -> RawBody | None:
    """Return a body that is written as text."""
    stated = request.get("raw")
    return RawBody(stated["text"], stated.get("type", "text/plain")) if stated else None


def _fields(stated: Mapping[str, Any]) -> dict[str, Field]:
    return {
        name: Field(
            title=field["title"],
            is_secret=field.get("secret", False),
            is_optional=field.get("optional", False),
            help=field.get("help"),
        )
        for name, field in stated.items()
    }


def _is_placed(apply: Mapping[str, Any]) -> bool:
    return any(apply.get(part) for part in ("header", "query", "form", "json"))


def _steps(
    one: Mapping[str, Any], token: Mapping[str, Any] | None, readers: Readers
) -> tuple[TokenStep, ...]:
    if token is None:
        return ()
    if one["kind"] == "oauth2_client":
        return client_steps(token)
    if "steps" in token:
        return tuple(_step(step, one, readers) for step in token["steps"])
    form: dict[str, Any] = {
        "grant_type": "authorization_code",
        "code": "${token.code}",
        "redirect_uri": "${token.redirect_uri}",
    }
    if one.get("authorize", {}).get("pkce", True):
        form["code_verifier"] = "${token.verifier}"
    return (_standard(token, form, _SAVE_GRANT, {"optional": "${int(body.expires_in)}"}),)


def _refresh(one: Mapping[str, Any], readers: Readers) -> tuple[TokenStep, ...]:
    stated, token = one["refresh"], one.get("token") or {}
    dead = _dead(stated.get("dead_when", _DEAD_BY_STANDARD))
    if "steps" in stated:
        return tuple(_step(step, one, readers, dead) for step in stated["steps"])
    form = {"grant_type": "refresh_token", "refresh_token": "${token.refresh}"}
    where = {**token, **({"url": stated["url"]} if "url" in stated else {})}
    ends = {"optional": "${int(body.expires_in)}"}
    return (_standard(where, form, _SAVE_GRANT, ends, dead),)


def _dead(rules: Any) -> tuple[ErrorRule, ...]:
    return tuple(ErrorRule(when, "fail", "auth", DEAD, None) for when in rules)


def _standard(
    token: Mapping[str, Any],
    form: Mapping[str, Any],
    save: Mapping[str, Any],
    ends: Any,
    errors: tuple[ErrorRule, ...] = (),
) -> TokenStep:
    request = RequestTemplate(
        method="POST",
        path="",
        query=None,
        headers={},
        json=None,
        auth="none",
        form={"object": dict(form)},
        url=token["url"],
    )
    return TokenStep(
        request=request,
        envelope=Envelope(),
        errors=errors,
        save={"object": {"save": {"object": dict(save)}, "ends": ends}},
        expires=Expires("", "in_seconds"),
        client_auth=token.get("client_auth", "basic"),
    )


def _step(
    stated: Mapping[str, Any],
    one: Mapping[str, Any],
    readers: Readers,
    dead: tuple[ErrorRule, ...] = (),
) -> TokenStep:
    request, envelope, errors = readers
    ends, grant = _expires(stated.get("expires")), _expires(stated.get("grant_expires"))
    result: dict[str, Any] = {"save": {"object": stated["save"]}}
    if ends:
        result["ends"] = {"optional": ends.value}
    if grant:
        result["grant_ends"] = {"optional": grant.value}
    part = dict(stated)
    return TokenStep(
        request=request(stated["request"]),
        envelope=envelope(part),
        errors=dead + errors(part),
        save={"object": result},
        expires=ends,
        sign=_step_sign(stated.get("sign"), one),
        grant_expires=grant,
    )


def _step_sign(stated: Any, one: Mapping[str, Any]) -> Sign | None:
    """A token's request is signed like others, with parameters of its own put before."""
    own = stated if isinstance(stated, Mapping) else {}
    is_whole = "sign" in one or {"steps", "put"} <= own.keys()  # or the token's alone is signed
    if not stated or not is_whole:
        return None
    return sign({**one.get("sign", {}), **own}, own.get("before", one.get("before", {})))


def stream(manifest: Mapping[str, Any], readers: Readers) -> Stream | None:
    """Return how an app is listened to, as the manifest states it."""
    stated = manifest.get("stream")
    if stated is None:
        return None
    step = _step(stated["open"], {}, readers)
    return Stream(open=step, hosts=tuple(stated["hosts"]), prefix=stated["prefix"])


def _expires(stated: Mapping[str, str] | None) -> Expires | None:
    if not stated:
        return None
    unit = next(iter(stated))
    return Expires(stated[unit], unit)


def _authorize(stated: Mapping[str, Any]) -> Authorize:
    return Authorize(
        url=stated["url"],
        params=stated.get("params", {}),
        pkce=stated.get("pkce", True),
        client=stated.get("client", "client_id"),
        issuer=stated.get("issuer"),
    )


def _identity(stated: Mapping[str, Any], readers: Readers) -> Identity:
    request, envelope, errors = readers
    part = dict(stated)
    return Identity(
        request=request(stated["request"]) if "request" in stated else None,
        envelope=envelope(part),
        errors=errors(part),
        account=stated.get("account"),
        label=stated.get("label"),
    )


def _usual_fields(kind: str) -> dict[str, Field]:
    if kind == "basic":
        return {
            "username": Field(say("用户名", "User name")),
            "password": Field(say("密码", "Password"), is_secret=True),
        }
    if kind in ("oauth2_client", "oauth2_code"):
        return {
            "client_id": Field(say("客户端编号", "Client id")),
            "client_secret": Field(say("客户端密钥", "Client secret"), is_secret=True),
        }
    return {}
