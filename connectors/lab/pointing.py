"""A connector turned towards a stand-in: the same manifest, every call to one address."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from connectors.engine.connector import Auth, ConnectionValues, Connector, TokenStep

SETTING = "lab_url"
BASE = "${settings." + SETTING + "}"


def pointed(connector: Connector) -> Connector:
    """Return the connector with all its addresses taken from one setting of its own."""
    bases = dict.fromkeys(connector.http.bases, BASE)
    return replace(
        connector,
        http=replace(connector.http, base=BASE, bases=bases),
        auth=tuple(_way(one) for one in connector.auth),
        settings_hosts=(*connector.settings_hosts, SETTING),
    )


def connection(connector: Connector, url: str, stated: Mapping[str, Any]) -> ConnectionValues:
    """Return a fixture's connection, pointed at the stand-in's address."""
    settings = {**stated.get("settings", {}), SETTING: url}
    settings |= dict.fromkeys(connector.settings_hosts, url)
    fields, token = stated.get("fields", {}), stated.get("token")
    return ConnectionValues(settings, stated.get("auth"), fields, token)


def _way(way: Auth) -> Auth:
    token = way.token
    if token is not None and "url" in token:
        token = {**token, "url": BASE + path_of(str(token["url"]))}
    steps, refresh = map(_step, way.steps), map(_step, way.refresh)
    return replace(way, token=token, steps=tuple(steps), refresh=tuple(refresh))


def _step(step: TokenStep) -> TokenStep:
    url = step.request.url
    if url is None:
        return step
    return replace(step, request=replace(step.request, url=BASE + path_of(url)))


def path_of(url: str) -> str:
    """Return the path of an address, which may begin with a setting."""
    if url.startswith("${"):
        return url.partition("}")[2] or "/"
    return urlsplit(url).path or "/"
