"""The pages at the door: sign up, sign in, sign out, confirm, accept an invitation."""

from typing import Any

from flask import request

from identity import (
    audit,
    entrance,
    guard,
    invitations,
    organizations,
    passwords,
    sessions,
)
from identity.guard import cookies, person, principal_or_none, public, safe_path, signed_in
from identity.pages.drawing import blueprint, draw, go, typed, visitor
from kernel import web
from kernel.database import EVERY, reading, transaction
from kernel.errors import Problem
from kernel.settings import settings


@blueprint.get("/sign-in")
@public
def sign_in() -> Any:
    """Show the way in; whoever is in already goes on."""
    if guard.person_or_none() is not None:
        return go(_next())
    return draw("sign_in.html", next=_next())


@blueprint.post("/sign-in")
@public
def sign_in_now() -> Any:
    """Let a person in by e-mail and password."""
    email = typed("email")
    try:
        entered = entrance.sign_in(email, request.form.get("password", ""), visitor(email))
    except Problem as problem:
        return draw("sign_in.html", problem=problem, next=_next())
    return _welcome(entered, _next())


@blueprint.get("/sign-up")
@public
def sign_up() -> Any:
    """Show the form for a new organization; a signed-in person makes one from the inside."""
    if guard.person_or_none() is not None:
        return go(guard.CHOOSE_ORGANIZATION)
    return _draw_sign_up()


@blueprint.post("/sign-up")
@public
def sign_up_now() -> Any:
    """Create an organization and its owner and let them in."""
    try:
        made, _ = entrance.sign_up(
            visitor(),
            organization_name=typed("organization_name"),
            email=typed("email"),
            name=typed("name"),
            password=request.form.get("password", ""),
            language=web.current_language(),
            industry=typed("industry") or None,
            size=typed("size") or None,
        )
    except Problem as problem:
        return _draw_sign_up(problem)
    return _welcome(entrance.start_session(made.user, made.organization.id, visitor()), _next())


@blueprint.post("/sign-out")
@signed_in
def sign_out() -> Any:
    """End this browser's session; one that has ended by itself leads to the door as well."""
    who = principal_or_none()
    with transaction(EVERY) as session:
        sessions.end(session, person().user_id, person().session_id)
        if who is not None:
            audit.record(session, who, "session.ended", who.session_id)
    response = go(guard.SIGN_IN)
    cookies.clear_session(response)
    return response


@blueprint.get("/suspended")
@signed_in
def suspended() -> Any:
    """Say that the person's organization is suspended, why, and whom to ask."""
    held = guard.suspended_or_none()
    if held is None:
        return go("/")
    with reading(EVERY) as session:
        others = [
            organization
            for organization, _ in organizations.list_of_user(session, person().user_id)
            if organization.id != held.id
        ]
    contact = settings().operator_contact
    return draw("suspended.html", held=held, others=others, contact=contact)


@blueprint.get("/confirm")
@signed_in
def confirm() -> Any:
    """Ask for the password again before something that matters."""
    return draw("confirm.html", next=_next())


@blueprint.post("/confirm")
@signed_in
def confirm_now() -> Any:
    """Check the password and go on; the session gets another secret."""
    who = person()
    try:
        entrance.confirm(who.user_id, request.form.get("password", ""), who.session_id)
    except Problem as problem:
        return draw("confirm.html", problem=problem, next=_next())
    return renew_secret(go(_next()))


@blueprint.get("/invitations/<secret>")
@public
def invitation(secret: str) -> Any:
    """Show who invites whom, and the step that fits whoever is looking."""
    return _draw_invitation(secret)


@blueprint.post("/invitations/<secret>")
@public
def accept_invitation(secret: str) -> Any:
    """Take the seat: as oneself when signed in, else by making the account."""
    who = guard.person_or_none()
    try:
        if who is not None:
            entrance.accept(secret, who.user_id, who.session_id, visitor())
            return renew_secret(go("/"))
        entered = entrance.accept_as_new(
            secret,
            visitor(),
            name=typed("name"),
            password=request.form.get("password", ""),
            language=web.current_language(),
        )
    except Problem as problem:
        return _draw_invitation(secret, problem)
    return _welcome(entered, "/")


@blueprint.get("/organizations")
@signed_in
def choose_organization() -> Any:
    """Show the organizations one belongs to, and how to found another."""
    return draw("organizations.html", next=_next(), sizes=organizations.SIZES)


@blueprint.post("/organizations")
@signed_in
def found_organization() -> Any:
    """Found another organization and act in it."""
    try:
        entrance.found(person().user_id, person().session_id, typed("organization_name"), visitor())
    except Problem as problem:
        return draw("organizations.html", problem=problem, next="/", sizes=organizations.SIZES)
    return renew_secret(go("/"))


@blueprint.post("/session/organization")
@signed_in
def switch_organization() -> Any:
    """Act in another organization one belongs to; a stranger's is NotFound."""
    with transaction(EVERY) as session:
        seat = organizations.find_of_user(session, person().user_id, typed("organization_id"))
        sessions.switch(session, person().session_id, seat.id)
    return renew_secret(go(_next()))


def renew_secret(response: Any) -> Any:
    """Give this browser's session another secret, as after every change of power."""
    secret = guard.present_secret()
    if secret is not None:
        with transaction(EVERY) as session:
            renewed = sessions.rotate(session, person().session_id, secret)
        if renewed is not None:
            cookies.set_session(response, renewed)
    return response


def _welcome(entered: entrance.SignedIn, path: str) -> Any:
    response = go(path)
    cookies.set_session(response, entered.secret)
    cookies.set_device(response, entered.user.email)
    cookies.set_language(response, entered.user.language)
    return response


def _next() -> str:
    return safe_path(request.values.get("next"))


def _draw_sign_up(problem: Problem | None = None) -> Any:
    return draw(
        "sign_up.html",
        problem=problem,
        next=_next(),
        sizes=organizations.SIZES,
        min_length=passwords.MIN_LENGTH,
    )


def _draw_invitation(secret: str, problem: Problem | None = None) -> Any:
    with reading(invitations.organization_of(secret)) as session:
        found, organization, known = invitations.look_up(session, secret)
    return draw(
        "invitation.html",
        problem=problem,
        invitation=found,
        organization=organization,
        is_known=known is not None,
        here=request.path,
        min_length=passwords.MIN_LENGTH,
    )
