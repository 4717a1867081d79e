"""The pages of vendors' connectors: the vendor's workshop, the operator's review, the upgrade."""

from typing import Any

from flask import request

from connectors import mapping_rows
from connectors.errors import Unfit, finding
from connectors.pages.drawing import blueprint, draw, go, typed
from connectors.publishing import archives, cassettes, deeds, editions
from connectors.publishing.tables import OPEN, ConnectorEdition
from identity.guard import principal, require
from kernel.database import EVERY, reading, transaction
from kernel.errors import NotFound, Problem

MAX_OPENAPI = 512 * 1024
STATES = {"deprecate": "deprecated", "withdraw": "withdrawn", "offer": "published"}


@blueprint.get("/vendor/connectors")
@require("releases:submit")
def list_editions() -> Any:
    """Show the vendor's connectors, and the ways to begin one."""
    return _draw_list()


@blueprint.post("/vendor/connectors")
@require("releases:submit")
def upload_edition() -> Any:
    """Take a zip, or make a new folder from a name and maybe an OpenAPI document."""
    who = principal()
    try:
        if typed("do") == "begin":
            files, notes = deeds.begin(who, typed("name"), _uploaded("file", MAX_OPENAPI))
            if not files:
                raise Unfit([{"pointer": "/name", "say": one} for one in notes[:10]])
        else:
            raw = _uploaded("file", archives.MAX_ZIP)
            if raw is None:
                raise Unfit([finding("/archive", "请选择 zip 文件", "Choose a zip file")])
            files = archives.read(raw)
        edition = deeds.upload(who, files)
    except Problem as problem:
        return _draw_list(problem)
    return go(f"/vendor/connectors/{edition.id}", done="edition_uploaded")


def _uploaded(name: str, most: int) -> bytes | None:
    upload = request.files.get(name)
    if upload is None or not upload.filename:
        return None
    return upload.stream.read(most + 1)


@blueprint.get("/vendor/connectors/<edition_id>")
@require("releases:submit")
def show_edition(edition_id: str) -> Any:
    """Show a version: what the check found beside the source, how the tests went, what changed."""
    return _draw_one(edition_id)


@blueprint.get("/vendor/connectors/<edition_id>/live")
@require("releases:submit")
def show_edition_live(edition_id: str) -> Any:
    """Send the part of a version's page that changes while it is checked."""
    return _draw_one(edition_id, template="edition_live.html")


@blueprint.post("/vendor/connectors/<edition_id>/file")
@require("releases:submit")
def write_edition_file(edition_id: str) -> Any:
    """Take a changed file; the folder is then checked anew."""
    name, text = typed("file"), request.form.get("text", "")
    try:
        deeds.write_file(principal(), edition_id, name, text)
    except Problem as problem:
        return _draw_one(edition_id, problem=problem, text=text)
    return go(f"/vendor/connectors/{edition_id}", file=name, done="edition_uploaded")


@blueprint.post("/vendor/connectors/<edition_id>/try")
@require("releases:submit")
def try_edition(edition_id: str) -> Any:
    """Show what an action would send and what a recorded answer comes to; nothing is sent."""
    text, tried, problem = request.form.get("input", ""), None, None
    try:
        value = mapping_rows.read_yaml(text)
        tried = deeds.rehearse(
            principal(), edition_id, typed("action"), value, typed("answer") or None
        )
    except NotFound:
        raise
    except Problem as no:
        problem = no
    return _draw_one(edition_id, problem=problem, tried=tried)


@blueprint.post(
    "/vendor/connectors/<edition_id>/<any(submit, delete, deprecate, withdraw, offer):deed>"
)
@require("releases:submit")
def act_on_edition(edition_id: str, deed: str) -> Any:
    """Send to review, throw away, deprecate, withdraw, offer again."""
    who = principal()
    try:
        if deed == "submit":
            deeds.submit(who, edition_id)
        elif deed == "delete":
            deeds.delete(who, edition_id)
            return go("/vendor/connectors", done="edition_delete")
        else:
            deeds.change_state(who, edition_id, STATES[deed], typed("reason", 2_000))
    except Problem as problem:
        return _draw_one(edition_id, problem=problem)
    return go(f"/vendor/connectors/{edition_id}", done=f"edition_{STATES.get(deed, deed)}")


@blueprint.get("/operator/connectors")
@require("releases:review")
def list_edition_reviews() -> Any:
    """Show the connectors that wait for review, the oldest first, and the last decisions."""
    with reading(EVERY) as session:
        waiting, decided = editions.waiting(session), editions.decided(session)
        return draw("edition_reviews.html", waiting=waiting, decided=decided)


@blueprint.get("/operator/connectors/<edition_id>")
@require("releases:review")
def review_edition(edition_id: str) -> Any:
    """Show a reviewer what a connector may reach, what changed, and its files."""
    return _draw_review(edition_id)


@blueprint.post("/operator/connectors/<edition_id>")
@require("releases:review")
def decide_edition(edition_id: str) -> Any:
    """Publish or refuse a version in review, or recall one that is published."""
    who, decision, reason = principal(), typed("decision"), typed("reason", 2_000)
    try:
        if decision == "recall":
            deeds.recall(who, edition_id, reason)
        else:
            deeds.decide(who, edition_id, decision, reason)
    except Problem as problem:
        return _draw_review(edition_id, problem)
    return go("/operator/connectors", done="edition_decided")


@blueprint.post("/connections/<connection_id>/upgrade")
@require("connections:write", "flows:write")
def upgrade_connection(connection_id: str) -> Any:
    """Move a connection and its flows to the newest version of its connector."""
    try:
        deeds.upgrade(principal(), connection_id)
    except Problem as problem:
        return draw("upgrade_refused.html", problem=problem, connection_id=connection_id)
    return go(f"/connections/{connection_id}", done="upgraded")


def _draw_list(problem: Problem | None = None) -> Any:
    with transaction(EVERY) as session:
        vendor = editions.publisher(session, principal().organization_id)
        mine = editions.of_vendor(session, vendor.id)
        return draw("editions.html", problem=problem, vendor=vendor, editions=mine)


def _draw_one(
    edition_id: str,
    template: str = "edition.html",
    problem: Problem | None = None,
    text: str | None = None,
    tried: dict[str, Any] | None = None,
) -> Any:
    with transaction(EVERY) as session:
        vendor = editions.publisher(session, principal().organization_id)
        edition = editions.find_own(session, vendor, edition_id)
        return _draw_edition(template, edition, problem, text=text, tried=tried)


def _draw_review(edition_id: str, problem: Problem | None = None) -> Any:
    with reading(EVERY) as session:
        edition = editions.find(session, edition_id)
        if edition.state in OPEN and edition.state != "rejected":
            edition = editions.find(session, "")  # a draft is nobody's but its vendor's
        return _draw_edition("edition_review.html", edition, problem)


def _draw_edition(
    template: str,
    edition: ConnectorEdition,
    problem: Problem | None,
    text: str | None = None,
    tried: dict[str, Any] | None = None,
) -> Any:
    files = archives.read(bytes(edition.archive))
    wanted = typed("file") or request.args.get("file", "manifest.yaml")
    shown = wanted if wanted in files else "manifest.yaml"
    lines = files[shown].decode("utf-8", "replace").split("\n")
    beside: dict[int, list[dict[str, Any]]] = {}
    for one in edition.findings:
        if one["file"] == shown:
            beside.setdefault(min(one["line"], len(lines)), []).append(one)
    page = draw(
        template,
        problem=problem,
        edition=edition,
        key=editions.key_of(edition),
        names=sorted(files),
        shown=shown,
        lines=lines,
        beside=beside,
        text=text if text is not None else "\n".join(lines),
        may_change=edition.state in OPEN,
        is_moving=edition.state == "checking",
        recordings=cassettes.recordings(files),
        tried=tried,
    )
    if template == "edition_live.html" and edition.state != "checking":
        page.headers["HX-Refresh"] = "true"
    return page
