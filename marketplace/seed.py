"""What a fresh hub begins with: the catalogue, and in demo mode firms to sign in as."""

import contextlib
import json
import os
import secrets
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text
from sqlmodel import Session, col, select

from catalog import seed as catalogue
from catalog.tables import Vendor
from identity import organizations, passwords, users
from identity.tables import Member, Organization, User
from kernel.database import EVERY, reading, transaction
from kernel.settings import settings

DEMO_VENDOR_KEY = "yangfan-demo"
_LOCK_NUMBER = 7_219_604_113  # any number, as long as it is always this one


@dataclass(frozen=True)
class _Seat:
    email: str
    name: str
    role: str
    does: str


@dataclass(frozen=True)
class _Firm:
    name: str
    seats: tuple[_Seat, ...]
    is_vendor: bool = False
    is_operator: bool = False


FIRMS = (
    _Firm(
        "扬帆示例工厂",
        (
            _Seat("owner@factory.example", "王海", "owner", "所有者 Owner"),
            _Seat("member@factory.example", "李敏", "member", "成员 Member"),
            _Seat("integrator@factory.example", "陈工", "integrator", "集成商 Integrator"),
        ),
    ),
    _Firm(
        "扬帆演示厂商",
        (_Seat("vendor@vendor.example", "周宁", "owner", "服务商 Vendor"),),
        is_vendor=True,
    ),
    _Firm(
        "扬帆运营中心",
        (_Seat("operator@hub.example", "赵航", "owner", "平台运营 Operator"),),
        is_operator=True,
    ),
)


def seed() -> list[str]:
    """Put in what is missing and return the demo log-ins, one line each (none outside demo mode).

    Safe to repeat, also from several processes at once; what people changed stays as it is.
    """
    is_demo = settings().demo
    password = _demo_password() if is_demo else None
    # hashing takes a while on purpose: not inside the transaction, and not when all are there
    digest = passwords.hash_password(password) if password and _is_anybody_missing() else None
    with transaction(EVERY) as session:
        _take_turns(session)
        catalogue.seed(session, include_demo=is_demo)
        if digest is not None:
            for firm in FIRMS:
                _seed_firm(session, firm, digest)
    if password is None:
        return []
    return [
        f"{_padded(seat.does, 20)} {seat.email:<28} {password}"
        for firm in FIRMS
        for seat in firm.seats
    ]


def _padded(text: str, width: int) -> str:
    """Fill a text up to a width in a terminal, where a Chinese character takes two places."""
    taken = sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)
    return text + " " * (width - taken)


def _is_anybody_missing() -> bool:
    with reading(EVERY) as session:
        emails = [seat.email for firm in FIRMS for seat in firm.seats]
        return any(users.find_by_email(session, email) is None for email in emails)


def _take_turns(session: Session) -> None:
    """Let one process seed at a time; on SQLite there is one writer anyway."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK_NUMBER})


def _seed_firm(session: Session, firm: _Firm, digest: str) -> None:
    first = firm.seats[0]
    owner = users.find_by_email(session, first.email)
    if owner is None:
        made = organizations.sign_up(
            session,
            organization_name=firm.name,
            email=first.email,
            name=first.name,
            password_digest=digest,
        )
        organization = made.organization
        organizations.set_kind(
            session, organization.id, is_vendor=firm.is_vendor, is_operator=firm.is_operator
        )
    else:
        found = _organization_of(session, owner)
        if found is None:
            return  # somebody took the demo apart; it is theirs now
        organization = found
    for seat in firm.seats[1:]:
        _seed_seat(session, organization, seat, digest)
    if firm.is_vendor:
        _give_vendor(session, organization)


def _organization_of(session: Session, owner: User) -> Organization | None:
    seats = organizations.list_of_user(session, owner.id)
    return next((found for found, member in seats if member.role == "owner"), None)


def _seed_seat(session: Session, organization: Organization, seat: _Seat, digest: str) -> None:
    if users.find_by_email(session, seat.email) is not None:
        return
    user = users.create(session, email=seat.email, name=seat.name, password_digest=digest)
    session.flush()  # the seat points at the person
    session.add(Member(organization_id=organization.id, user_id=user.id, role=seat.role))


def _give_vendor(session: Session, organization: Organization) -> None:
    """Let the demo vendor's people look after the demo apps."""
    vendor = session.execute(
        select(Vendor).where(col(Vendor.key) == DEMO_VENDOR_KEY)
    ).scalar_one_or_none()
    if vendor is not None and vendor.organization_id is None:
        vendor.organization_id = organization.id
        session.add(vendor)


def _demo_password() -> str:
    """Return the demo log-ins' password, made at the first start and kept in the data folder."""
    path = Path(settings().data_dir) / "demo-login.json"
    if path.exists():
        return str(json.loads(path.read_text("utf-8"))["password"])
    path.parent.mkdir(parents=True, exist_ok=True)
    # easy to read aloud and to type: no look-alikes
    password = "-".join(
        "".join(secrets.choice("abcdefghjkmnpqrstuvwxyz23456789") for _ in range(4))
        for _ in range(3)
    )
    # whole or not at all: somebody else may be starting too, and the first one's counts
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    draft.touch(mode=0o600)
    draft.write_text(json.dumps({"password": password}), "utf-8")
    with contextlib.suppress(FileExistsError):
        os.link(draft, path)
    draft.unlink()
    return str(json.loads(path.read_text("utf-8"))["password"])
