"""Client certificates: who the hub is to a target that asks for one (mTLS)."""

from datetime import timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID
from sqlmodel import Session

from kernel import clock, vault
from kernel.errors import N_, Invalid
from webhooks import endpoints
from webhooks.parcels import key_context
from webhooks.tables import Endpoint

MOST_CERTIFICATES = 10
LEAST_RSA_BITS = 2048
SOON = timedelta(days=30)
_CURVES = ("secp256r1", "secp384r1", "secp521r1")


def give(
    session: Session, organization_id: str, endpoint_id: str, *, chain: str, key: str
) -> Endpoint:
    """Show this certificate to the target from now on; raises Invalid when it cannot work."""
    endpoint = endpoints.get(session, organization_id, endpoint_id)
    certificates = _read_chain(chain)
    private = _read_key(key)
    first = certificates[0]
    _check(first, private)
    text = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    endpoint.client_certificate = "".join(
        one.public_bytes(Encoding.PEM).decode() for one in certificates
    )
    endpoint.client_key_sealed = vault.seal(text, key_context(organization_id, endpoint_id))
    endpoint.certificate_until = first.not_valid_after_utc
    return endpoint


def take_away(session: Session, organization_id: str, endpoint_id: str) -> Endpoint:
    """Show no certificate any more."""
    endpoint = endpoints.get(session, organization_id, endpoint_id)
    endpoint.client_certificate = None
    endpoint.client_key_sealed = None
    endpoint.certificate_until = None
    return endpoint


def shown(endpoint: Endpoint) -> dict[str, str] | None:
    """Return what people want to know of an endpoint's certificate; None without one."""
    if endpoint.client_certificate is None or endpoint.certificate_until is None:
        return None
    first = x509.load_pem_x509_certificates(endpoint.client_certificate.encode())[0]
    left = endpoint.certificate_until - clock.now()
    return {
        "subject": first.subject.rfc4514_string(),
        "issuer": first.issuer.rfc4514_string(),
        "state": "expired" if left <= timedelta() else "soon" if left < SOON else "good",
    }


def _refusal(field: str, message: str) -> Invalid:
    return Invalid(errors=[{"pointer": f"/{field}", "message": message}])


def _read_chain(text: str) -> list[x509.Certificate]:
    try:
        found = x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        raise _refusal("certificate", N_("This is not a certificate in PEM")) from None
    if len(found) > MOST_CERTIFICATES:
        raise _refusal("certificate", N_("At most 10 certificates, yours first"))
    return found


def _read_key(text: str) -> Any:
    try:
        return load_pem_private_key(text.encode(), password=None)
    except TypeError:
        message = N_("This key has a password; save it without one first")
    except Exception:  # noqa: BLE001 - whatever is wrong with it, it is no key for us
        message = N_("This is not a private key in PEM")
    raise _refusal("private_key", message) from None


def _check(certificate: x509.Certificate, key: Any) -> None:
    now = clock.now()
    if certificate.not_valid_after_utc <= now:
        raise _refusal("certificate", N_("This certificate has expired"))
    if certificate.not_valid_before_utc > now:
        raise _refusal("certificate", N_("This certificate is not valid yet"))
    if not _is_for_clients(certificate):
        raise _refusal("certificate", N_("This certificate is not made for clients"))
    if not _is_strong(key):
        message = N_("This key is too weak: use RSA from 2048 bits, P-256, P-384, P-521 or Ed25519")
        raise _refusal("private_key", message)
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
        raise _refusal("private_key", N_("This key belongs to another certificate"))


def _is_for_clients(certificate: x509.Certificate) -> bool:
    try:
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return True  # it does not say, so targets take it for anything
    return bool(
        {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(uses)
    )


def _is_strong(key: Any) -> bool:
    if isinstance(key, rsa.RSAPrivateKey):
        return key.key_size >= LEAST_RSA_BITS
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.curve.name in _CURVES
    return isinstance(key, ed25519.Ed25519PrivateKey)
