"""Examples: what each way of proof is called, and a command line that sends one signed event."""

import base64
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from catalog import event_types
from kernel import documents
from kernel.errors import N_
from webhooks.tables import Source

EXAMPLE = "order.paid"
GITHUB_EXAMPLE = "ping"


@dataclass(frozen=True, slots=True)
class SchemeText:
    """How a scheme is shown to people."""

    title: str
    text: str
    icon: str
    is_weak: bool = False


SCHEMES: Mapping[str, SchemeText] = {
    "standard_webhooks": SchemeText(
        N_("Standard Webhooks"),
        N_("Signed with time and id. Best choice for your own programs; many apps know it."),
        "shield-check",
    ),
    "github": SchemeText(
        N_("GitHub"),
        N_("Takes webhooks of GitHub, Gitea and others that sign alike."),
        "git-branch",
    ),
    "hmac": SchemeText(
        N_("Another app that signs"),
        N_("Shops, payment and form services that put an HMAC into a header."),
        "key",
    ),
    "token": SchemeText(
        N_("A fixed token in a header"),
        N_("For apps that can send a header but cannot sign. Weak: keep the token secret."),
        "password-user",
        is_weak=True,
    ),
    "none": SchemeText(
        N_("No proof"),
        N_("Weak: whoever learns the address can send events. Only for trials."),
        "alert-triangle",
        is_weak=True,
    ),
    "recipe": SchemeText(
        N_("A known sender"),
        N_("The proof of one certain sender, said by a recipe."),
        "plug-connected",
    ),
}

# What a source is proved by that nobody opens by hand.
POLL = SchemeText(
    N_("The hub asks the app"), N_("Nobody sends here; the hub asks the app."), "clock"
)


def text_of(scheme: str) -> SchemeText:
    """Return how a scheme is shown to people."""
    return SCHEMES.get(scheme, POLL)


def curl(source: Source, url: str, secret: str | None) -> str:
    """Write shell lines that send one event the way this source wants it, and that it accepts."""
    lines = [f"BODY={shlex.quote(documents.dump(body(source)).decode())}"]
    options = source.scheme_options
    if source.scheme == "standard_webhooks":
        key = f"-mac HMAC -macopt hexkey:{_hex(secret)}"
        sign = f"openssl dgst -sha256 {key} -binary | openssl base64 -A"
        lines += [
            "ID=msg_$(date +%s%N); TS=$(date +%s)",
            f"""SIG=$(printf '%s.%s.%s' "$ID" "$TS" "$BODY" | {sign})""",
        ]
    elif source.scheme in ("github", "hmac"):
        is_github = source.scheme == "github"
        algorithm = "sha256" if is_github else str(options.get("algorithm", "sha256"))
        ending = (
            "-binary | openssl base64 -A"
            if options.get("encoding") == "base64"
            else "| sed 's/.* //'"
        )
        stamp = "" if is_github else _stamp(source)
        if stamp:
            lines.append("TS=$(date +%s)")
        lines.append(
            f"SIG=$(printf '%s' \"{stamp}$BODY\" | openssl dgst -{algorithm}"
            f" -hmac {shlex.quote(secret or '')} {ending})"
        )
    headers = ["'content-type: application/json'", *_proof(source, secret), *_type_header(source)]
    call = [f"curl -X POST {shlex.quote(url)}", *(f"-H {one}" for one in headers), '-d "$BODY"']
    return "\n".join([*lines, " \\\n  ".join(call)])


def body(source: Source) -> Any:
    """Return a message that this source takes: its type where the rules look, the data complete."""
    rules = source.type_rules
    origin, named = rules.get("from", "envelope"), str(rules.get("value") or "")
    if origin == "envelope":
        return {"type": EXAMPLE, "data": _data(EXAMPLE)}
    told = named if origin == "fixed" else _told_type(source)
    data = _data(f"{rules.get('prefix') or ''}{told}")
    message: Any = {}
    if rules.get("data_pointer"):
        _put(message, str(rules["data_pointer"]), data)
    else:
        message = data
    if origin == "pointer":
        _put(message, named, told)
    return message


def _told_type(source: Source) -> str:
    is_github = source.scheme == "github" and source.type_rules.get("from") == "header"
    return GITHUB_EXAMPLE if is_github else EXAMPLE


def _data(name: str) -> dict[str, Any]:
    """Return a known type's sample with the needed fields only: short, and still accepted."""
    found = event_types.lookup(None, None, name)
    if found is None or not isinstance(found.sample, dict):
        return {"order_no": "SO-1001"}
    needed = found.schema.get("required", ())
    return {field: value for field, value in found.sample.items() if field in needed}


def _put(message: dict[str, Any], pointer: str, value: Any) -> None:
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    for name in parents:
        inner = message.setdefault(name, {})
        if not isinstance(inner, dict):
            return  # the sample's own field stands in the way
        message = inner
    message[last] = value


def _type_header(source: Source) -> list[str]:
    rules = source.type_rules
    if rules.get("from") != "header":
        return []
    return [shlex.quote(f"{str(rules.get('value')).lower()}: {_told_type(source)}")]


def _proof(source: Source, secret: str | None) -> list[str]:
    options = source.scheme_options
    prefix = str(options.get("prefix", ""))
    if source.scheme == "standard_webhooks":
        return ['"webhook-id: $ID"', '"webhook-timestamp: $TS"', '"webhook-signature: v1,$SIG"']
    if source.scheme == "github":
        return ['"x-hub-signature-256: sha256=$SIG"', '"x-github-delivery: $(date +%s%N)"']
    if source.scheme == "token":
        header = str(options.get("header", "authorization"))
        return [shlex.quote(f"{header}: {prefix}{secret}")]
    if source.scheme != "hmac":
        return []
    header = str(options.get("header", "x-signature"))
    if options.get("style") == "stripe":
        return [f'"{header}: t=$TS,v1=$SIG"']
    time_header = options.get("timestamp_header")
    more = [f'"{time_header}: $TS"'] if time_header else []
    return [f'"{header}: {prefix}$SIG"', *more]


def _stamp(source: Source) -> str:
    options = source.scheme_options
    is_timed = options.get("style") == "stripe" or options.get("timestamp_header")
    return "$TS." if is_timed else ""


def _hex(secret: str | None) -> str:
    try:
        return base64.b64decode((secret or "").removeprefix("whsec_")).hex()
    except ValueError:
        return (secret or "").encode().hex()
