"""Nightly proofs: every ready-made flow is rehearsed once a night, and at once when it is new.

A template's row has the time of its next rehearsal. Whoever takes it holds it for a minute, plays
the samples without a transaction, and writes down what came out; one that died is taken up again.
"""

import hashlib
import random
import time
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import or_, select, update
from sqlmodel import Session, col

from connectors import proofs
from connectors.engine import flow_templates
from connectors.engine.flow_templates import FlowTemplate
from connectors.tables import TEMPLATE_PROOF, TemplateProof
from kernel import documents, ids, log
from kernel.database import store_now, write
from kernel.rows import insert_ignore
from kernel.settings import VERSION

NIGHT = 19  # o'clock in UTC: three in the morning in China
SPREAD_MINUTES = 120
LEASE = timedelta(minutes=1)
_known: set[str] = set()  # templates that have a row, as this process knows
_logger = log.get_logger(__name__)


def sweep() -> int:
    """Rehearse the next template whose time has come; returns how many that were: none or one."""
    _make_rows()
    owner = ids.new_id("prf")
    key = write(lambda session: _claim(session, owner))
    if key is None:
        return 0
    template = flow_templates.all().get(key)
    if template is None:  # it is no longer offered
        write(lambda session: _forget(session, key))
        return 1
    began = time.perf_counter()
    try:
        found = proofs.prove(template)
        problems: list[dict[str, Any]] = [
            {"pointer": one.target, "say": dict(one.say)} for one in found.problems[:20]
        ]
    except Exception as error:
        _logger.exception("rehearsal_broke", template=key)
        words = f"{type(error).__name__}: {error}"[:300]
        problems = [
            {"pointer": "", "say": {"zh": f"试跑中断：{words}", "en": f"It broke: {words}"}}
        ]
    took_ms = int((time.perf_counter() - began) * 1000)
    write(lambda session: _record(session, owner, template, problems, took_ms))
    return 1


def all_of(session: Session) -> dict[str, TemplateProof]:
    """Return how the last rehearsals went, by template."""
    return {one.id: one for one in session.execute(select(TemplateProof)).scalars()}


def _make_rows() -> None:
    """Give every template a row; a changed one, or one of another version, goes at once."""
    missing = [one for one in flow_templates.all().values() if one.key not in _known]
    if not missing:
        return
    write(lambda session: _insert(session, missing))
    _known.update(one.key for one in missing)


def _insert(session: Session, missing: list[FlowTemplate]) -> None:
    now = store_now(session)
    rows: list[dict[str, Any]] = [
        {
            "id": one.key, "created_at": now, "state": "new", "proved_at": None,
            "hub_version": "", "digest": "", "trial_count": 0, "elapsed_ms": 0, "problems": [],
            "next_at": now, "lease_owner": None, "lease_until": None,
        }
        for one in missing
    ]  # fmt: skip
    insert_ignore(session, TemplateProof, rows, ("id",))
    for one in missing:
        is_other = or_(
            col(TemplateProof.digest) != digest_of(one), col(TemplateProof.hub_version) != VERSION
        )
        session.execute(
            update(TemplateProof)
            .where(col(TemplateProof.id) == one.key, is_other, col(TemplateProof.next_at) > now)
            .values(next_at=now)
            .execution_options(synchronize_session=False)
        )


def digest_of(template: FlowTemplate) -> str:
    """Return the digest of all that a rehearsal plays."""
    trials = [repr(one) for one in template.trials]
    mixed = documents.dump([dict(template.document), dict(template.sample), trials])
    return hashlib.sha256(mixed).hexdigest()[:40]


def _claim(session: Session, owner: str) -> str | None:
    now = store_now(session)
    free = or_(TEMPLATE_PROOF.c.lease_until.is_(None), TEMPLATE_PROOF.c.lease_until < now)
    wanted = (
        select(TEMPLATE_PROOF.c.id)
        .where(TEMPLATE_PROOF.c.next_at <= now, free)
        .order_by(TEMPLATE_PROOF.c.next_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    key: str | None = session.execute(wanted).scalar_one_or_none()
    if key is not None:
        session.execute(
            update(TEMPLATE_PROOF)
            .where(TEMPLATE_PROOF.c.id == key)
            .values(lease_owner=owner, lease_until=now + LEASE)
        )
    return key


def _record(
    session: Session,
    owner: str,
    template: FlowTemplate,
    problems: list[dict[str, Any]],
    took_ms: int,
) -> None:
    now = store_now(session)
    session.execute(
        update(TEMPLATE_PROOF)
        .where(TEMPLATE_PROOF.c.id == template.key, TEMPLATE_PROOF.c.lease_owner == owner)
        .values(
            state="failed" if problems else "ok",
            proved_at=now,
            hub_version=VERSION,
            digest=digest_of(template),
            trial_count=len(template.trials),
            elapsed_ms=took_ms,
            problems=problems,
            next_at=_next_night(now),
            lease_owner=None,
            lease_until=None,
        )
    )


def _next_night(now: datetime) -> datetime:
    night = now.replace(hour=NIGHT, minute=0, second=0, microsecond=0)
    if night <= now:
        night += timedelta(days=1)
    return night + timedelta(minutes=random.uniform(0, SPREAD_MINUTES))  # noqa: S311


def _forget(session: Session, key: str) -> None:
    row = session.get(TemplateProof, key)
    if row is not None:
        session.delete(row)
