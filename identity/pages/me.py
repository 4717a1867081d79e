"""One's own pages: profile, password, where one is signed in."""

from typing import Any

from flask import request

from identity import audit, browsers, entrance, passwords, sessions, users
from identity.guard import cookies, person, principal_or_none, signed_in
from identity.pages.drawing import blueprint, draw, go, typed, visitor
from kernel.database import EVERY, reading, transaction
from kernel.errors import Problem


@blueprint.get("/me")
@signed_in
def profile() -> Any:
    """Show one's name, address and language."""
    return draw("profile.html", user=person())


@blueprint.post("/me")
@signed_in
def change_profile() -> Any:
    """Change one's name and language."""
    try:
        with transaction(EVERY) as session:
            user = users.change(
                session, person().user_id, name=typed("name"), language=typed("language")
            )
    except Problem as problem:
        return draw("profile.html", problem=problem, user=person())
    response = go("/me?done=saved")
    cookies.set_language(response, user.language)
    return response


@blueprint.get("/me/security")
@signed_in
def security() -> Any:
    """Show where one is signed in and how to change the password."""
    return _draw_security()


@blueprint.post("/me/password")
@signed_in
def change_password() -> Any:
    """Change one's password; every other browser has to sign in again."""
    form = request.form
    try:
        entered = entrance.change_password(
            person().user_id, form.get("old_password", ""), form.get("password", ""), visitor()
        )
    except Problem as problem:
        return _draw_security(problem)
    response = go("/me/security?done=password")
    cookies.set_session(response, entered.secret)
    return response


@blueprint.post("/me/sessions/<session_id>/end")
@signed_in
def end_session(session_id: str) -> Any:
    """Sign one browser out."""
    with transaction(EVERY) as session:
        sessions.end(session, person().user_id, session_id)
        _note(session, "session.ended", session_id)
    return go("/me/security?done=ended")


@blueprint.post("/me/sessions/end-others")
@signed_in
def end_other_sessions() -> Any:
    """Sign every other browser out."""
    with transaction(EVERY) as session:
        sessions.end_all(session, person().user_id, except_id=person().session_id)
        _note(session, "session.all_ended", person().user_id)
    return go("/me/security?done=ended")


def _note(session: Any, action: str, object_id: str) -> None:
    who = principal_or_none()
    if who is not None:
        audit.record(session, who, action, object_id)


def _draw_security(problem: Problem | None = None) -> Any:
    with reading(EVERY) as session:
        live = sessions.list_live(session, person().user_id)
    return draw(
        "security.html",
        problem=problem,
        live=live,
        describe=browsers.describe,
        here_id=person().session_id,
        min_length=passwords.MIN_LENGTH,
    )
