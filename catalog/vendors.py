"""Vendors: who may publish, how they ask for it, and who admits them."""

import re

from sqlalchemy import select
from sqlmodel import Session, col

from catalog.tables import Vendor
from identity import organizations
from identity.tables import Organization
from kernel import clock
from kernel.errors import N_, Conflict, FieldError, Forbidden, Invalid, NotFound

_CREDIT_LETTERS = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_CREDIT_WEIGHTS = (1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28)
COMMUNITY_KEY = "open-source"


def is_credit_code(code: str) -> bool:
    """Tell whether a text is a unified social credit code with the right check character."""
    if len(code) != 18 or any(letter not in _CREDIT_LETTERS for letter in code):
        return False
    total = sum(
        _CREDIT_LETTERS.index(letter) * weight
        for letter, weight in zip(code[:17], _CREDIT_WEIGHTS, strict=True)
    )
    return _CREDIT_LETTERS[(31 - total % 31) % 31] == code[17]


def apply(
    session: Session,
    organization_id: str,
    *,
    name: dict[str, str],
    contact_email: str,
    credit_code: str | None = None,
    homepage: str | None = None,
    about: dict[str, str] | None = None,
) -> Vendor:
    """Ask to become a Vendor; a refused Vendor may ask again with better papers."""
    if credit_code and not is_credit_code(credit_code):
        wrong: FieldError = {
            "pointer": "/credit_code",
            "message": N_("This is not a unified social credit code: a character is mistyped"),
        }
        raise Invalid(errors=[wrong])
    vendor = of_organization(session, organization_id)
    if vendor is not None and vendor.state not in {"rejected", "applied"}:
        raise Conflict(N_("Your organization is a vendor already"))
    if vendor is None:
        vendor = Vendor(organization_id=organization_id, key=_free_key(session, name), name=name)
    vendor.name, vendor.about, vendor.homepage = name, about, homepage
    vendor.contact_email, vendor.credit_code = contact_email, credit_code
    vendor.state, vendor.reason = "applied", None
    session.add(vendor)
    session.flush()  # callers show its id
    return vendor


def _free_key(session: Session, name: dict[str, str]) -> str:
    stem = re.sub(r"[^a-z0-9]+", "-", (name.get("en") or "").lower()).strip("-")[:48] or "vendor"
    taken = set(
        session.execute(
            select(col(Vendor.key)).where(col(Vendor.key).startswith(stem, autoescape=True))
        ).scalars()
    )
    number = 1
    while (key := stem if number == 1 else f"{stem}-{number}") in taken:
        number += 1
    return key


def of_organization(session: Session, organization_id: str) -> Vendor | None:
    """Return the organization's Vendor, if it ever asked to be one."""
    statement = select(Vendor).where(col(Vendor.organization_id) == organization_id)
    return session.execute(statement).scalar_one_or_none()


def publisher(session: Session, organization_id: str) -> Vendor:
    """Return the Vendor that may publish for this organization; Forbidden says why not."""
    vendor = of_organization(session, organization_id)
    if vendor is None:
        organization = session.get(Organization, organization_id)
        if organization is None or not organization.is_vendor:
            raise Forbidden(N_("Apply as a vendor first; the hub's operator then admits you"))
        # admitted by the operator's command line: the papers can follow
        name = {"zh": organization.name, "en": organization.name}
        vendor = Vendor(
            organization_id=organization_id,
            key=_free_key(session, name),
            name=name,
            state="verified",
            decided_at=clock.now(),
        )
        session.add(vendor)
        session.flush()  # its apps point at it
    if vendor.state != "verified":
        raise Forbidden(N_("Your organization is not admitted as a vendor at present"))
    return vendor


def find(session: Session, vendor_id: str) -> Vendor:
    """Return a Vendor; an unknown id is NotFound."""
    vendor = session.get(Vendor, vendor_id)
    if vendor is None:
        raise NotFound
    return vendor


def verify(session: Session, vendor_id: str, decided_by: str | None) -> Vendor:
    """Admit a Vendor: its organization may publish from now on."""
    return _decide(session, vendor_id, "verified", None, decided_by)


def reject(session: Session, vendor_id: str, reason: str, decided_by: str | None) -> Vendor:
    """Turn an application down, with a reason the applicant reads."""
    return _decide(session, vendor_id, "rejected", reason, decided_by)


def suspend(session: Session, vendor_id: str, reason: str, decided_by: str | None) -> Vendor:
    """Stop a Vendor from publishing; what is installed goes on working."""
    return _decide(session, vendor_id, "suspended", reason, decided_by)


def _decide(
    session: Session, vendor_id: str, state: str, reason: str | None, decided_by: str | None
) -> Vendor:
    vendor = find(session, vendor_id)
    if vendor.organization_id is None:
        raise Conflict(N_("This vendor has no organization on the hub"))
    if state != "verified" and not (reason or "").strip():
        wrong: FieldError = {"pointer": "/reason", "message": N_("Give a reason")}
        raise Invalid(errors=[wrong])
    organizations.set_kind(session, vendor.organization_id, is_vendor=state == "verified")
    vendor.state, vendor.reason = state, reason
    vendor.decided_by, vendor.decided_at = decided_by, clock.now()
    session.add(vendor)
    return vendor


def waiting(session: Session) -> list[Vendor]:
    """Return the applications nobody has decided, oldest first."""
    statement = select(Vendor).where(col(Vendor.state) == "applied").order_by(col(Vendor.id))
    return list(session.execute(statement).scalars())
