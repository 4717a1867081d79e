"""The ways to sign in of an OpenAPI document, as a manifest says them."""

from collections.abc import Iterator, Mapping
from typing import Any

from connectors.engine.findings import Say, pointer
from connectors.lab.openapi_schemas import Book
from connectors.lab.openapi_shape import BROKEN, name_of, odd


def ways(book: Book, document: Mapping[str, Any], left_out: list[Say]) -> list[dict[str, Any]]:
    """Return the ways to sign in that the manifest's language knows, five at most."""
    return list(_ways(book, document, left_out)) or [_open_way()]


def _ways(book: Book, document: Mapping[str, Any], left_out: list[Say]) -> Iterator[dict[str, Any]]:
    components = document.get("components")
    schemes = components.get("securitySchemes") if isinstance(components, Mapping) else None
    for name, stated in list(schemes.items())[:5] if isinstance(schemes, Mapping) else ():
        one = book.follow(stated)
        try:
            way = _way(one)
        except BROKEN:
            left_out.append(odd(pointer("components", "securitySchemes", name)))
            continue
        if way is not None:
            title = " ".join(str(one.get("description") or name).split())[:100]
            yield {"id": name_of(name), **way, "title": {"zh": f"TODO {title}", "en": title}}


def _open_way() -> dict[str, Any]:
    return {"id": "open", "kind": "none", "title": {"zh": "不需要登录", "en": "No credentials"}}


def _way(one: Mapping[str, Any]) -> dict[str, Any] | None:
    kind, place = one.get("type"), one.get("in")
    secret = {"key": {"title": {"zh": "密钥", "en": "Key"}, "secret": True}}
    if kind == "apiKey" and place in ("header", "query"):
        return {
            "kind": "api_key",
            "fields": secret,
            "apply": {place: {str(one.get("name")): "${field.key}"}},
        }
    if kind == "http" and str(one.get("scheme", "")).lower() == "basic":
        return {"kind": "basic"}
    flow = one.get("flows", {}).get("clientCredentials") if kind == "oauth2" else None
    if flow and str(flow.get("tokenUrl", "")).startswith("https://"):
        return {"kind": "oauth2_client", "token": {"url": flow["tokenUrl"]}}
    if kind in ("http", "oauth2", "openIdConnect"):
        apply = {"header": {"Authorization": "Bearer ${field.key}"}}
        return {"kind": "api_key", "fields": secret, "apply": apply}
    return None
