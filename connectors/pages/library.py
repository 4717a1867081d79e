"""The pages of the connector library."""

import re
from typing import Any

from flask import Response, request, send_file
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from catalog.tables import Vendor
from connectors import connections
from connectors.engine import flow_templates, loader
from connectors.engine.connector import Connector
from connectors.pages.drawing import blueprint, draw
from connectors.publishing import editions
from connectors.publishing.tables import ConnectorEdition
from identity.guard import principal, require
from kernel.database import EVERY, reading
from kernel.web import current_language, localized

_markdown = MarkdownIt("js-default")  # no HTML passes through, addresses are checked


@blueprint.get("/connectors")
@require("connections:read")
def list_connectors() -> Any:
    """Show the library, filtered by words and slot."""
    wanted, slot = request.args.get("q", "").strip().lower(), request.args.get("slot", "")
    found = [one for one in loader.library().values() if _fits(one, wanted, slot)]
    slots = sorted(
        {name.partition(".")[0] for one in loader.library().values() for name in one.slots}
    )
    with reading(EVERY) as session:
        offered = [one for one in editions.offered(session) if _fits(one[0], wanted, slot)]
    return draw(
        "connectors.html",
        connectors=found,
        offered=offered,
        key_of=editions.key_of,
        slots=slots,
        slot=slot,
        words=wanted,
    )


@blueprint.get("/connectors/<key>")
@require("connections:read")
def show_connector(key: str) -> Any:
    """Show what a connector can do and how it is connected."""
    connector, who = loader.find(key), principal()
    with reading(who.organization_id) as session:
        mine = connections.all_of(session, who.organization_id, key)
    with reading(EVERY) as session:
        edition = editions.by_key(session, key)
        made_by = session.get(Vendor, edition.vendor_id) if edition is not None else None
    recipes = [one for one in flow_templates.all().values() if key in one.connectors]
    return draw(
        "connector.html",
        connector=connector,
        made_by=made_by,
        connections=mine,
        recipes=recipes,
        readme=_readme(connector),
    )


@blueprint.get("/connectors/<key>/icon.svg")
@require("connections:read")
def show_icon(key: str) -> Response:
    """Send a connector's picture; as an image it can run nothing."""
    response = send_file(loader.find(key).icon, mimetype="image/svg+xml", max_age=3600)
    response.headers["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'"
    return response


def _fits(connector: Connector | ConnectorEdition, wanted: str, slot: str) -> bool:
    if slot and not any(name.partition(".")[0] == slot for name in connector.slots):
        return False
    text = " ".join(
        [
            connector.key if isinstance(connector, Connector) else editions.key_of(connector),
            *(
                localized(part, language)
                for part in (connector.title, connector.summary)
                for language in ("zh", "en")
            ),
        ]
    )
    return wanted in text.lower()


def _readme(connector: Connector) -> Markup:
    """Render a README without its title, its headings one level down."""
    try:
        tokens = _markdown.parse(connector.readme)
    except FileNotFoundError:
        return Markup("")
    if tokens and tokens[0].type == "heading_open" and tokens[0].tag == "h1":
        tokens = tokens[3:]
    tokens = _in_language(tokens, current_language())
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 1)}"
    return Markup(_markdown.renderer.render(tokens, _markdown.options, {}))  # noqa: S704 - no HTML


def _in_language(tokens: list[Token], language: str) -> list[Token]:
    """Keep the sections whose headings are in a language; all when none are."""
    starts = [n for n, one in enumerate(tokens) if (one.type, one.tag) == ("heading_open", "h2")]
    kept = list(tokens[: starts[0]]) if starts else []
    before = len(kept)
    for start, end in zip(starts, [*starts[1:], len(tokens)], strict=True):
        is_chinese = bool(re.search("[\u4e00-\u9fff]", tokens[start + 1].content))
        if is_chinese == (language == "zh"):
            kept += tokens[start:end]
    return kept if len(kept) > before else tokens
