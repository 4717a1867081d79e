"""Parcels: one delivery packed for the road, as a CloudEvent signed the Standard Webhooks way."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from kernel import documents, vault
from kernel.http import ClientCertificate, Request
from kernel.settings import settings
from webhooks import payloads, signing
from webhooks.own_headers import HeaderRow, read_headers, without_secrets

TIMEOUT_SECONDS = 15
KEPT_RESPONSE_BYTES = 4096
CONTENT_TYPE = "application/cloudevents+json"
_JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Target:
    """What sending needs to know of an endpoint."""

    organization_id: str
    id: str
    url: str
    secrets: tuple[str, ...]  # sealed
    headers: tuple[HeaderRow, ...] = ()  # the owner's, secret ones sealed
    certificate: tuple[str, str] | None = None  # PEM, and its sealed key
    max_in_flight: int | None = None


@dataclass(frozen=True, slots=True)
class Parcel:
    """A leased delivery with everything an attempt needs; no database behind it."""

    organization_id: str
    delivery_id: str
    event_id: str
    target: Target
    body: bytes
    attempt_no: int
    ladder_step: int
    lease_owner: str


def target_of(endpoint: Mapping[str, Any], now: datetime) -> Target:
    """Read a target out of an endpoint's columns; rotated-out secrets sign until their end."""
    old = [one for one in endpoint["old_secrets"] if datetime.fromisoformat(one["until"]) > now]
    return Target(
        endpoint["organization_id"],
        endpoint["id"],
        endpoint["url"],
        (endpoint["secret_sealed"], *(one["sealed"] for one in old)),
        tuple(endpoint["headers"]),
        (endpoint["client_certificate"], endpoint["client_key_sealed"])
        if endpoint["client_certificate"]
        else None,
        endpoint["max_in_flight"],
    )


def cloud_event(event: Mapping[str, Any], referred_by: str = "") -> bytes:
    """Write a stored event as a CloudEvent in JSON, its data byte for byte as it came in.

    For an endpoint named in `referred_by` the data's address stands there instead.
    """
    head: dict[str, Any] = {
        "specversion": "1.0",
        "id": event["id"],
        "source": f"{settings().base_url}/{event['origin']}",
        "type": event["type"],
        "time": event["occurred_at"].astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "datacontenttype": event["content_type"],
    }
    if event["subject"]:
        head["subject"] = event["subject"]
    if event["version"]:
        head["version"] = event["version"]
    if referred_by:
        key = payloads.Key(event["organization_id"], event["id"], referred_by)
        return documents.dump({**head, **payloads.reference(key, event["body"])})
    if event["content_type"] != _JSON:
        return documents.dump({**head, "data_base64": base64.b64encode(event["body"]).decode()})
    body: bytes = event["body"]
    return documents.dump(head)[:-1] + b',"data":' + body + b"}"


def secret_context(organization_id: str, endpoint_id: str) -> str:
    """Name the place a sealed signing secret belongs to, so that it opens nowhere else."""
    return f"{organization_id}|endpoint|{endpoint_id}|secret"


@lru_cache(maxsize=2048)
def _opened(sealed: str, context: str) -> str:
    return vault.open_sealed(sealed, context).decode()


def request_of(parcel: Parcel, now: datetime) -> Request:
    """Build the signed request; the id stays the same over retries, the time is the attempt's."""
    target = parcel.target
    context = secret_context(target.organization_id, target.id)
    secrets = [_opened(sealed, context) for sealed in target.secrets]
    headers = {
        **read_headers(target.headers, target.organization_id, target.id),
        "content-type": CONTENT_TYPE,
        "user-agent": "Yangfan-Webhooks/1",
        **signing.sign(parcel.event_id, parcel.body, secrets, now),
    }
    return Request(
        method="POST",
        url=target.url,
        headers=headers,
        body=parcel.body,
        timeout_seconds=TIMEOUT_SECONDS,
        max_response_bytes=KEPT_RESPONSE_BYTES,
        certificate=_certificate(target),
    )


def key_context(organization_id: str, endpoint_id: str) -> str:
    """Name the place the sealed key of a client certificate belongs to."""
    return f"{organization_id}|endpoint|{endpoint_id}|client_key"


def _certificate(target: Target) -> ClientCertificate | None:
    if target.certificate is None:
        return None
    chain, sealed = target.certificate
    key = _opened(sealed, key_context(target.organization_id, target.id))
    return ClientCertificate(chain.encode(), key.encode())


def shown_headers(parcel: Parcel, request: Request) -> dict[str, str]:
    """Return what a request's headers may be kept and shown as: the owner's secrets left out."""
    return without_secrets(request.headers, parcel.target.headers)
