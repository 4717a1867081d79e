"""A connector turned towards a stand-in: the same manifest, every call to one address."""

from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from connectors.engine.connector import Auth, ConnectionValues, Connector

SETTING = "lab_url"
BASE = "${settings." + SETTING + "}"


def pointed(connector: Connector) -> Connector:
    """Return the connector with its base and token addresses taken from one setting of its own."""
    return replace(
        connector,
        http=replace(connector.http, base=BASE),
        auth=tuple(_way(one) for one in connector.auth),
        settings_hosts=(*connector.settings_hosts, SETTING),
    )


def connection(connector: Connector, url: str, stated: dict[str, Any]) -> ConnectionValues:
    """Return a fixture's connection, pointed at the stand-in's address."""
    settings = {**stated.get("settings", {}), SETTING: url}
    settings |= dict.fromkeys(connector.settings_hosts, url)
    fields, token = stated.get("fields", {}), stated.get("token")
    return ConnectionValues(settings, stated.get("auth"), fields, token)


def _way(way: Auth) -> Auth:
    if way.token is None or "url" not in way.token:
        return way
    return replace(way, token={**way.token, "url": BASE + path_of(str(way.token["url"]))})


def path_of(url: str) -> str:
    """Return the path of an address, which may begin with a setting."""
    if url.startswith("${"):
        return url.partition("}")[2] or "/"
    return urlsplit(url).path or "/"
