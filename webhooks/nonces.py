"""Nonces: words that a sender may use once, remembered for a day by all processes together.

What comes again with the same word and the same content is a repetition, which dedupe knows; the
same word with other content is somebody who heard it and uses it for himself.
"""

import hashlib
from datetime import timedelta

from sqlalchemy import delete
from sqlmodel import Session

from kernel import clock
from kernel.database import write
from kernel.rows import insert_ignore
from webhooks.recipes import Refused
from webhooks.tables import NONCE, Nonce

KEPT = timedelta(hours=24)
_SWEEPS = "0"  # digests that begin so, one in sixteen, also drop what is old


def use(organization_id: str, source_id: str, word: str, body: bytes) -> None:
    """Note that a word was used with a body; raises Refused when it was, with another."""
    whole = f"{len(source_id)}:{source_id}:{word}".encode("utf-8", "surrogatepass")
    digest, seen = hashlib.sha256(whole).hexdigest()[:40], hashlib.sha256(body).hexdigest()

    def work(session: Session) -> bool:
        now = clock.now()
        row = {"organization_id": organization_id, "id": digest, "created_at": now, "seen": seen}
        insert_ignore(session, Nonce, [row], ("organization_id", "id"))
        if digest.startswith(_SWEEPS):
            old = (NONCE.c.organization_id == organization_id, NONCE.c.created_at < now - KEPT)
            session.execute(delete(Nonce).where(*old))
        known = session.get(Nonce, (organization_id, digest))
        return known is None or known.seen == seen

    if not write(work, organization_id):
        raise Refused(
            "signature_reused",
            "这个一次性编号已用于另一条消息",
            "This one-time word was used before, with another message",
        )
