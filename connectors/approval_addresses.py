"""Approval addresses: how a link names one question so that it cannot be made up."""

import re

from connectors.keys import Key
from identity import proofs
from kernel.errors import N_, NotFound
from kernel.settings import settings

PATH = "/decide/"
_PURPOSE = "approval"
_TOKEN = re.compile(r"([0-9A-Z]{26})([0-9A-Z]{26})([0-9a-f]{64})")


def address_of(organization_id: str, approval_id: str) -> str:
    """Return the address that leads to a question."""
    named = organization_id.partition("_")[2] + approval_id.partition("_")[2]
    mark = proofs.sign_lastingly(_PURPOSE, named)
    return f"{settings().base_url.rstrip('/')}{PATH}{named}{mark}"


def key_of(token: str) -> Key:
    """Read an address's secret part; raises NotFound for one that this hub did not make."""
    found = _TOKEN.fullmatch(token)
    if found is None or not proofs.is_signed(_PURPOSE, found[1] + found[2], found[3]):
        raise NotFound(N_("This link leads nowhere"))
    return f"org_{found[1]}", f"apv_{found[2]}"
