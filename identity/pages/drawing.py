"""How identity's pages are drawn: with what went wrong in the reader's words."""

from typing import Any

from flask import Blueprint, Response, make_response, redirect, render_template, request
from flask_babel import gettext

from identity import roles
from identity.entrance import Visitor
from identity.guard import cookies, present_secret
from kernel.errors import FieldError, Problem

blueprint = Blueprint("identity_pages", "identity", template_folder="templates")


def draw(template: str, *, problem: Problem | None = None, **values: Any) -> Response:
    """Draw a page of identity; a problem is told in words and gives the page its status."""
    errors, told = [], None
    if problem is not None:
        errors = [_in_words(error) for error in problem.errors]
        told = {
            "what": gettext(problem.title) % problem.params,
            "why": gettext(problem.detail) % problem.params if problem.detail else "",
        }
    page = render_template(
        f"identity/{template}",
        errors=errors,
        told=told,
        form=request.form,
        role_titles=roles.ROLE_TITLES,
        role_sentences=roles.ROLE_SENTENCES,
        permission_sentences=roles.PERMISSIONS,
        **values,
    )
    response = make_response(page, problem.status if problem else 200)
    if problem is not None and problem.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(problem.retry_after_seconds)
    return response


def _in_words(error: FieldError) -> FieldError:
    msgid = error["message"]
    return {"pointer": error["pointer"], "message": gettext(msgid)}


def go(path: str) -> Response:
    """Send the browser on after a form was taken; 303 never repeats what was posted."""
    return make_response(redirect(path, 303))


def visitor(email: str | None = None) -> Visitor:
    """Describe the browser that is asking."""
    return Visitor(
        address=request.remote_addr or "",
        user_agent=request.headers.get("User-Agent", "")[:300],
        device=cookies.known_device(email) if email else None,
        secret=present_secret(),
    )


def typed(name: str, limit: int = 300) -> str:
    """Return what was typed into a field, without NUL and cut where nobody types by hand."""
    return request.form.get(name, "")[:limit].replace("\0", "")
