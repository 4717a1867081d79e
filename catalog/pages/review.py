"""The operator's review: releases and vendors that wait, what is new in them, the decision."""

from typing import Any

from catalog import apps, deeds, manifests, releases, vendors
from catalog.pages.drawing import blueprint, draw, go, typed
from identity.guard import principal, require
from kernel.database import EVERY, reading
from kernel.errors import Problem


@blueprint.get("/operator/review")
@require("releases:review")
def review_queue() -> Any:
    """Show the releases that wait, oldest first, and the last decisions."""
    with reading(EVERY) as session:
        waiting = [
            (release, app, vendor, releases.changes(session, release))
            for release, app, vendor in releases.waiting(session)
        ]
        decided = releases.decided(session)
    return draw("review.html", waiting=waiting, decided=decided)


@blueprint.get("/operator/review/<release_id>")
@require("releases:review")
def review_release(release_id: str) -> Any:
    """Show everything a reviewer needs to decide on one release."""
    return _draw_release(release_id)


@blueprint.post("/operator/review/<release_id>")
@require("releases:review")
def review_decide(release_id: str) -> Any:
    """Approve or refuse a release."""
    try:
        deeds.decide_release(principal(), release_id, typed("decision"), typed("reason") or None)
    except Problem as problem:
        return _draw_release(release_id, problem)
    return go("/operator/review")


def _draw_release(release_id: str, problem: Problem | None = None) -> Any:
    with reading(EVERY) as session:
        release = releases.find(session, release_id)
        app = apps.of_release(session, release)
        vendor = vendors.find(session, release.vendor_id)
        asked = releases.changes(session, release)
    return draw(
        "review_release.html",
        release=release,
        app=app,
        vendor=vendor,
        changes=asked,
        # checked anew, because what was said then was said in the sender's language
        findings=manifests.check(release.source_text).findings,
        problem=problem,
    )


@blueprint.get("/operator/vendors")
@require("vendors:review")
def vendor_queue() -> Any:
    """Show the vendors that wait for admission."""
    return _draw_vendors()


@blueprint.post("/operator/vendors/<vendor_id>")
@require("vendors:review")
def vendor_decide(vendor_id: str) -> Any:
    """Admit or refuse a vendor; the page has a form for each that waits, with names of its own."""
    reason = f"reason_{vendor_id}"
    try:
        deeds.decide_vendor(principal(), vendor_id, typed("decision"), typed(reason) or None)
    except Problem as problem:
        for error in problem.errors:
            error["pointer"] = f"/{reason}"
        return _draw_vendors(problem)
    return go("/operator/vendors")


def _draw_vendors(problem: Problem | None = None) -> Any:
    with reading(EVERY) as session:
        waiting = vendors.waiting(session)
    return draw("review_vendors.html", waiting=waiting, problem=problem)
