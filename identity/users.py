"""People: one row for each e-mail address, whatever organizations they belong to."""

from email_validator import EmailNotValidError, validate_email
from sqlmodel import Session, col, select

from identity.tables import User
from kernel import clock
from kernel.errors import N_, Conflict, Invalid, NotFound
from kernel.ids import new_id
from kernel.rows import insert_ignore

LANGUAGES = ("zh", "en")


def normalise_email(email: str) -> str:
    """Return the one spelling under which an address is kept; raises Invalid when it is none."""
    try:
        found = validate_email(email.strip(), check_deliverability=False)
    except EmailNotValidError as error:
        message = N_("This does not look like an e-mail address.")
        raise Invalid(detail=message, errors=[{"pointer": "/email", "message": message}]) from error
    # The domain in its ASCII form: two look-alike spellings must not become two people.
    domain = (found.ascii_domain or found.domain).lower()
    return f"{found.local_part.casefold()}@{domain}"


def one_spelling(email: str) -> str:
    """Return the spelling an address is counted under, also when it is no address at all."""
    try:
        return normalise_email(email)
    except Invalid:
        return email.strip().casefold()


def find_by_email(session: Session, email: str) -> User | None:
    """Return the person with this address, or None; anything that is no address finds nobody."""
    email = one_spelling(email)
    return session.execute(select(User).where(col(User.email) == email)).scalar_one_or_none()


def find(session: Session, user_id: str) -> User:
    """Return a person; raises NotFound."""
    user = session.get(User, user_id)
    if user is None:
        raise NotFound
    return user


def create(
    session: Session,
    *,
    email: str,
    name: str,
    password_digest: str | None,
    language: str = "zh",
) -> User:
    """Add a person; raises Conflict when the address is taken, also by a race."""
    now = clock.now()
    row = {
        "id": new_id("usr"),
        "email": normalise_email(email),
        "name": clean_name(name),
        "password_digest": password_digest,
        "language": language if language in LANGUAGES else "zh",
        "password_changed_at": now if password_digest else None,
        "created_at": now,
    }
    if not insert_ignore(session, User, [row], ["email"]):
        raise Conflict(
            N_("We could not create this account"),
            N_("If you already have an account, sign in with it first."),
            code="account_not_created",
        )
    return find(session, str(row["id"]))


def change(
    session: Session, user_id: str, *, name: str | None = None, language: str | None = None
) -> User:
    """Change how a person is called and which language they read."""
    user = find(session, user_id)
    if name is not None:
        user.name = clean_name(name)
    if language is not None:
        if language not in LANGUAGES:
            raise Invalid(detail=N_("We speak Chinese and English."))
        user.language = language
    session.add(user)
    return user


def set_password(session: Session, user_id: str, password_digest: str) -> User:
    """Give a person another password; ending their other sessions is the caller's next step."""
    user = find(session, user_id)
    user.password_digest = password_digest
    user.password_changed_at = clock.now()
    session.add(user)
    return user


def rehash(session: Session, user_id: str, old_digest: str, new_digest: str) -> None:
    """Keep the same password under today's parameters, unless it was changed meanwhile."""
    user = find(session, user_id)
    if user.password_digest == old_digest:
        user.password_digest = new_digest
        session.add(user)


def disable(session: Session, user_id: str, *, is_disabled: bool) -> User:
    """Close or reopen a person's account; a closed one cannot sign in and its sessions stop."""
    user = find(session, user_id)
    user.disabled_at = clock.now() if is_disabled else None
    session.add(user)
    return user


def clean_name(name: str) -> str:
    """Return a name without needless blanks; raises Invalid when it is empty or too long."""
    name = " ".join(name.split())
    if not name or len(name) > 80:
        message = N_("Please give a name of at most 80 characters.")
        raise Invalid(detail=message, errors=[{"pointer": "/name", "message": message}])
    return name
