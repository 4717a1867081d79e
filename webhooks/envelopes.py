"""Envelopes: what one request carries, whatever wrapping it came in.

Read are one JSON document, an array of them, CloudEvents (structured, batched and binary) and
web forms. Each gives Envelopes: the exact JSON of the data and what the wrapping says about it.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

from kernel import documents
from kernel.errors import N_, FieldError, Malformed, TooLarge, UnsupportedMedia

MAX_BYTES = 1 << 20
MAX_ITEMS = 1000
MAX_FORM_FIELDS = 1000
_JSON_TYPES = {"application/json", "text/json", ""}
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PRINTABLE = re.compile(r"[\x20-\x7e]*")


@dataclass(slots=True)
class Envelope:
    """One fact as it arrived; `value` is the parsed `body`, None when that is not JSON."""

    body: bytes
    value: Any
    type: str | None = None
    version: int | None = None
    id: str | None = None
    source: str | None = None
    subject: str | None = None
    occurred_at: datetime | None = None
    content_type: str = "application/json"
    is_wrapped: bool = False  # the wrapping itself named the type
    errors: list[FieldError] = field(default_factory=list)

    @property
    def is_json(self) -> bool:
        """Tell whether the data is JSON and can be checked against a schema."""
        return self.content_type == "application/json"


@dataclass(frozen=True, slots=True)
class Opened:
    """All envelopes of a request, and whether they came as a list."""

    envelopes: list[Envelope]
    is_list: bool


def open_envelopes(raw: bytes, content_type: str, headers: Mapping[str, str]) -> Opened:
    """Read the body; raises Malformed, TooLarge or UnsupportedMedia, each naming its limit."""
    media, charset = _media(content_type)
    if charset not in {"", "utf-8", "utf8", "us-ascii"}:
        raise UnsupportedMedia(detail=N_("Only UTF-8 text is read"), code="charset")
    if media == "application/cloudevents+json":
        return Opened([_structured(documents.parse(raw, MAX_BYTES), raw)], is_list=False)
    if media == "application/cloudevents-batch+json":
        slices = documents.split_array(raw, MAX_ITEMS, MAX_BYTES)
        found = [_structured(documents.parse(item, MAX_BYTES), item) for item in slices]
        return Opened(found, is_list=True)
    if "ce-specversion" in headers:
        return Opened([_binary(raw, media, headers)], is_list=False)
    if media == "application/x-www-form-urlencoded":
        return Opened([_form(raw)], is_list=False)
    if media not in _JSON_TYPES and not media.endswith("+json"):
        raise UnsupportedMedia(
            detail=N_("Send JSON, a JSON array, CloudEvents or a web form"), code="content_type"
        )
    if raw.lstrip(b" \t\r\n").startswith(b"["):
        slices = documents.split_array(raw, MAX_ITEMS, MAX_BYTES)
        return Opened([_plain(item) for item in slices], is_list=True)
    return Opened([_plain(raw)], is_list=False)


def _media(content_type: str) -> tuple[str, str]:
    media, _, rest = content_type.partition(";")
    charset = ""
    for part in rest.split(";"):
        name, _, value = part.partition("=")
        if name.strip().lower() == "charset":
            charset = value.strip().strip('"').lower()
    return media.strip().lower(), charset


def _plain(raw: bytes) -> Envelope:
    value = documents.parse(raw, MAX_BYTES)
    if (
        isinstance(value, dict)
        and isinstance(value.get("specversion"), str)
        and isinstance(value.get("type"), str)
    ):
        return _structured(value, raw)  # many senders label CloudEvents as plain JSON
    return Envelope(body=raw.strip(b" \t\r\n"), value=value)


def _structured(value: Any, raw: bytes) -> Envelope:
    """Read a CloudEvent in JSON, its data byte for byte as it stands in `raw`.

    What is wrong with it is kept in `errors`, not raised.
    """
    if not isinstance(value, dict):
        errors: list[FieldError] = [{"pointer": "", "message": N_("A CloudEvent is a JSON object")}]
        return _broken(value, raw, errors)
    errors = [
        {"pointer": f"/{name}", "message": N_("This attribute is required")}
        for name in ("id", "source", "type", "specversion")
        if not isinstance(value.get(name), str) or not value[name]
    ]
    if not errors and not value["specversion"].startswith("1."):
        errors.append({"pointer": "/specversion", "message": N_("Only version 1.0 is read")})
    errors += [
        {"pointer": f"/{name}", "message": N_("This attribute must be text")}
        for name in ("subject", "time", "datacontenttype", "dataschema")
        if not isinstance(value.get(name), str | None)
    ]
    version = read_version(value.get("version"), errors)
    occurred_at = None
    if isinstance(value.get("time"), str):
        occurred_at = moment(value["time"])
        if occurred_at is None:
            errors.append({"pointer": "/time", "message": N_("This is not an RFC 3339 time")})
    body, data, content_type = b"null", value.get("data"), "application/json"
    if "data_base64" in value:
        body, data, content_type = _base64_data(value, errors)
    else:
        body = documents.member(raw, "data", value) if "data" in value else body
        media = _media(value.get("datacontenttype") or "")[0] if not errors else ""
        if media not in _JSON_TYPES and not media.endswith("+json"):
            # text such as XML travels as a JSON string: unwrap it
            content_type = media
            body = _text_data(data, errors) if isinstance(data, str) else body
    if errors:
        return _broken(value, raw, errors)
    return Envelope(
        body=body,
        value=data,
        type=value["type"],
        version=version,
        id=value["id"],
        source=value["source"],
        subject=value.get("subject"),
        occurred_at=occurred_at,
        content_type=content_type,
        is_wrapped=True,
    )


def _text_data(data: str, errors: list[FieldError]) -> bytes:
    try:
        return data.encode()
    except UnicodeEncodeError:
        message = N_("This text has half a character that no encoding can write")
        errors.append({"pointer": "/data", "message": message})
        return b""


def _base64_data(value: Mapping[str, Any], errors: list[FieldError]) -> tuple[bytes, Any, str]:
    if "data" in value:
        errors.append({"pointer": "/data", "message": N_("Send data or data_base64, not both")})
    media = _media(str(value.get("datacontenttype") or "application/octet-stream"))[0]
    try:
        body = base64.b64decode(str(value["data_base64"]), validate=True)
    except (binascii.Error, ValueError):
        errors.append({"pointer": "/data_base64", "message": N_("This is not base64")})
        return b"", None, media
    if media in _JSON_TYPES or media.endswith("+json"):
        try:
            return body, documents.parse(body, MAX_BYTES), "application/json"
        except (Malformed, TooLarge):
            errors.append({"pointer": "/data_base64", "message": N_("This is not JSON inside")})
    return body, None, media


def _broken(value: Any, raw: bytes, errors: list[FieldError]) -> Envelope:
    """Keep a wrapping that cannot be read, as it came, so that its owner can look at it."""
    known = value if isinstance(value, dict) else {}
    kind, own_id = known.get("type"), known.get("id")
    return Envelope(
        body=raw.strip(b" \t\r\n"),
        value=value,
        type=kind if isinstance(kind, str) and kind else None,
        id=own_id if isinstance(own_id, str) and own_id else None,
        errors=errors,
        is_wrapped=True,
    )


def _binary(raw: bytes, media: str, headers: Mapping[str, str]) -> Envelope:
    """Read a CloudEvent whose attributes are headers and whose data is the body."""
    if "ce-datacontenttype" in headers:
        raise Malformed(
            detail=N_("The header ce-datacontenttype is not allowed; use Content-Type"),
            code="cloudevents_header",
        )
    found = {name[3:]: header_text(v) for name, v in headers.items() if name.startswith("ce-")}
    is_json = media in _JSON_TYPES or media.endswith("+json")
    value = documents.parse(raw, MAX_BYTES) if is_json and raw else None
    errors: list[FieldError] = [
        {"pointer": f"/{name}", "message": N_("This attribute is required")}
        for name in ("id", "source", "type")
        if not found.get(name)
    ]
    if not found["specversion"].startswith("1."):
        errors.append({"pointer": "/specversion", "message": N_("Only version 1.0 is read")})
    occurred_at = moment(found["time"]) if found.get("time") else None
    if found.get("time") and occurred_at is None:
        errors.append({"pointer": "/time", "message": N_("This is not an RFC 3339 time")})
    return Envelope(
        body=raw or b"null",
        value=value,
        type=found.get("type") or None,
        version=read_version(found.get("version"), errors),
        id=found.get("id") or None,
        source=found.get("source"),
        subject=found.get("subject"),
        occurred_at=occurred_at,
        content_type="application/json" if is_json else media,
        is_wrapped=True,
        errors=errors,
    )


def header_text(value: str) -> str:
    """Decode a CloudEvents header: quotes off, percent escapes once, strict UTF-8."""
    text = value
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = re.sub(r"\\(.)", r"\1", text[1:-1])
    if not _PRINTABLE.fullmatch(text) or _BAD_PERCENT.search(text):
        raise Malformed(
            detail=N_("A ce- header has characters that must be percent-encoded"),
            code="cloudevents_header",
        )
    out = bytearray()
    position = 0
    for found in re.finditer(r"%([0-9A-Fa-f]{2})", text):
        out += text[position : found.start()].encode()
        out.append(int(found.group(1), 16))
        position = found.end()
    out += text[position:].encode()
    try:
        return out.decode()  # Python refuses overlong forms and surrogates, as the rules want
    except UnicodeDecodeError:
        raise Malformed(
            detail=N_("A ce- header is not UTF-8 after percent-decoding"),
            code="cloudevents_header",
        ) from None


def _form(raw: bytes) -> Envelope:
    """Read a web form as an object of texts; a lone JSON field `payload` is taken for the body."""
    try:
        pairs = parse_qsl(
            raw.decode(),
            keep_blank_values=True,
            strict_parsing=bool(raw),
            errors="strict",
            max_num_fields=MAX_FORM_FIELDS,
        )
    except UnicodeDecodeError:
        raise Malformed(detail=N_("The form is not UTF-8 text"), code="not_utf8") from None
    except ValueError:
        raise Malformed(
            detail=N_("This is not a web form, or it has more than %(limit)s fields"),
            code="not_a_form",
            limit=MAX_FORM_FIELDS,
        ) from None
    fields: dict[str, Any] = {}
    for name, text in pairs:
        if name not in fields:
            fields[name] = text
        elif isinstance(fields[name], list):
            fields[name].append(text)
        else:
            fields[name] = [fields[name], text]
    payload = fields.get("payload")
    if len(fields) == 1 and isinstance(payload, str) and payload.lstrip().startswith("{"):
        return _plain(payload.encode())
    return Envelope(body=documents.dump(fields), value=fields)


def read_version(value: Any, errors: list[FieldError], pointer: str = "/version") -> int | None:
    """Read an event type's version, a small whole number or its text."""
    if value is None:
        return None
    text = str(value)
    if isinstance(value, str | int) and text.isascii() and text.isdigit() and len(text) < 7:
        return int(text)
    errors.append({"pointer": pointer, "message": N_("A version is a whole number")})
    return None


def moment(text: str) -> datetime | None:
    """Read an RFC 3339 time; None for anything else, also for one without a zone."""
    if len(text) > 40 or "T" not in text.upper():
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    if found.tzinfo is None or not 1970 <= found.year <= 9000:
        return None
    return found
