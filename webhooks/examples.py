"""Examples: what each way of proof is called, and a command line that sends one signed event."""

import base64
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from kernel.errors import N_
from webhooks.tables import Source

BODY = '{"type":"order.paid","data":{"order_no":"SO-1001"}}'


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
}


def curl(source: Source, url: str, secret: str | None) -> str:
    """Write shell lines that send one event the way this source wants it."""
    send = f"curl -X POST {shlex.quote(url)} -H 'content-type: application/json'"
    lines = [f"BODY={shlex.quote(BODY)}"]
    options = source.scheme_options
    header = str(options.get("header", "x-signature"))
    prefix = str(options.get("prefix", ""))
    if source.scheme == "standard_webhooks":
        key = f"-mac HMAC -macopt hexkey:{_hex(secret)}"
        sign = f"openssl dgst -sha256 {key} -binary | openssl base64 -A"
        named = '-H "webhook-id: $ID" -H "webhook-timestamp: $TS"'
        lines += [
            "ID=msg_$(date +%s%N); TS=$(date +%s)",
            f"""SIG=$(printf '%s.%s.%s' "$ID" "$TS" "$BODY" | {sign})""",
            f'{send} {named} -H "webhook-signature: v1,$SIG" -d "$BODY"',
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
        lines.append(send + _proof(source, header, prefix) + ' -d "$BODY"')
    elif source.scheme == "token":
        name = str(options.get("header", "authorization"))
        lines.append(f'{send} -H {shlex.quote(f"{name}: {prefix}{secret}")} -d "$BODY"')
    else:
        lines.append(f'{send} -d "$BODY"')
    return "\n".join(lines)


def _proof(source: Source, header: str, prefix: str) -> str:
    if source.scheme == "github":
        return (
            ' -H "x-hub-signature-256: sha256=$SIG" -H "x-github-event: push"'
            ' -H "x-github-delivery: $(date +%s%N)"'
        )
    if source.scheme_options.get("style") == "stripe":
        return f' -H "{header}: t=$TS,v1=$SIG"'
    time_header = source.scheme_options.get("timestamp_header")
    more = f' -H "{time_header}: $TS"' if time_header else ""
    return f' -H "{header}: {prefix}$SIG"{more}'


def _stamp(source: Source) -> str:
    options = source.scheme_options
    is_timed = options.get("style") == "stripe" or options.get("timestamp_header")
    return "$TS." if is_timed else ""


def _hex(secret: str | None) -> str:
    try:
        return base64.b64decode((secret or "").removeprefix("whsec_")).hex()
    except ValueError:
        return (secret or "").encode().hex()
