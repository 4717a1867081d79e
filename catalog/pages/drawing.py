"""How the catalogue's pages are drawn: names of slots and codes, and what went wrong in words."""

from typing import Any

from flask import Blueprint, Response, has_request_context, make_response, redirect, request
from flask import render_template as render
from flask_babel import gettext

from catalog import findings, slots, words
from kernel.errors import Problem

blueprint = Blueprint("catalog_pages", "catalog", template_folder="templates")
# Where “install” leads; the shop may say otherwise.
INSTALL_PATHS = {"app": "/apps/{key}/install", "bundle": "/bundles/{key}/install"}


def draw(template: str, *, problem: Problem | None = None, **values: Any) -> Response:
    """Draw a page of the catalogue; a problem is told in words and gives the page its status."""
    told, errors = None, []
    if problem is not None:
        errors = [{**error, "message": _translate(error["message"])} for error in problem.errors]
        told = {
            "what": gettext(problem.title) % problem.params,
            "why": gettext(problem.detail) % problem.params if problem.detail else "",
        }
    page = render(
        f"catalog/{template}",
        told=told,
        errors=errors,
        form=request.form,
        words=words,
        slot_names=slots.slot_names(),
        layer_names=slots.layer_names(),
        sub_scenarios=slots.all_sub_scenarios(),
        install_path=lambda kind, key: INSTALL_PATHS[kind].format(key=key),
        **values,
    )
    return make_response(page, problem.status if problem else 200)


def go(path: str) -> Response:
    """Send the browser on after a form was taken; 303 never repeats what was posted."""
    return make_response(redirect(path, 303))


def typed(name: str, limit: int = 4_000) -> str:
    """Return what was typed into a field, without blanks around it."""
    return request.form.get(name, "")[:limit].strip()


def _translate(msgid: str) -> str:
    return gettext(msgid) if has_request_context() else msgid


def install(_app: Any) -> None:
    """Let the catalogue's findings speak the reader's language."""
    findings.TRANSLATORS[:] = [_translate]
