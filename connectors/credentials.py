"""What a person gave to connect an app: settings, fields, and whether they can be right."""

from collections.abc import Mapping
from typing import Any

from connectors.engine import loader, schemas
from connectors.engine.connector import Auth, Connector
from connectors.errors import Unfit, finding
from kernel import addresses
from kernel.errors import Invalid

MAX_FIELD_CHARACTERS = 16_000


def auth_of(connector: Connector, auth_id: str | None) -> Auth | None:
    """Return the chosen way to prove who calls; without a choice the connector's first."""
    return connector.auth_by_id(auth_id) or connector.auth_by_id(None)


def check_settings(connector: Connector, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what is wrong with the settings by the connector's schema."""
    schema = connector.settings or {"type": "object"}
    missing = [name for name in schema.get("required", ()) if settings.get(name) in (None, "")]
    findings = [
        finding(f"/settings/{name}", "请填写这一项", "Please fill this in") for name in missing
    ]
    if not missing:
        findings += [
            {"pointer": one.target, "say": dict(one.say)}
            for one in schemas.problems(schema, dict(settings), "/settings")
        ]
    return findings


def check_addresses(connector_key: str, settings: Mapping[str, Any]) -> None:
    """Refuse addresses that must not be called; looks names up, so call it outside a transaction.

    Raises Unfit; a name that cannot be found right now is let through, as every call is vetted.
    """
    findings = []
    for name in loader.find(connector_key).settings_hosts:
        url = settings.get(name)
        if not isinstance(url, str):
            continue
        try:
            addresses.check_url(url)
        except Invalid as refused:
            pointer = f"/settings/{name}"
            findings.append(
                finding(pointer, "这个地址不能使用，请换一个对外的网址", refused.plain())
            )
    if findings:
        raise Unfit(findings)


def check_fields(
    way: Auth | None, given: Mapping[str, str], wanted: str | None
) -> list[dict[str, Any]]:
    """Return what is wrong with the values for a way of signing in."""
    if way is None:
        return []
    if wanted and way.id != wanted:
        return [finding("/auth", "没有这种登录方式", "There is no such way to sign in")]
    findings = [
        finding(f"/fields/{name}", "请填写这一项", "Please fill this in")
        for name, one in way.fields.items()
        if not one.is_optional and not given.get(name)
    ]
    for name, value in given.items():
        if name not in way.fields:
            findings.append(finding(f"/fields/{name}", "不需要这一项", "This is not needed"))
        elif not isinstance(value, str) or len(value) > MAX_FIELD_CHARACTERS:
            findings.append(finding(f"/fields/{name}", "内容太长", "This is too long"))
    return findings
