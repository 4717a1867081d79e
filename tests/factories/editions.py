"""A vendor's connector folder, its zip, and a hub where it stands on the shelf."""

import io
import threading
import zipfile
from contextlib import contextmanager
from functools import cache

from factories.catalog import make_vendor
from factories.identity import make_member, make_organization
from factories.marketplace import acting
from werkzeug.serving import make_server

from connectors.engine import loader
from connectors.publishing import archives, checks, deeds, editions
from identity.principals import Principal
from kernel.database import EVERY, transaction


@cache
def folder() -> dict[str, bytes]:
    """The files of a small, faultless connector called acme-chat."""
    files = archives.of_folder(loader.LIBRARY / "demo-chat")
    return renamed(files, "demo-chat", "acme-chat")


def renamed(files, old: str, new: str) -> dict[str, bytes]:
    """The same files under another key, with a contract to go with it."""
    made = {name: body.replace(old.encode(), new.encode()) for name, body in files.items()}
    made.pop("contract.json", None)
    return with_contract(made, new)


def with_contract(files, key: str) -> dict[str, bytes]:
    import tempfile
    from pathlib import Path

    from connectors.engine import contract

    with tempfile.TemporaryDirectory() as place:
        home = Path(place) / key
        archives.unpack(files, home)
        contract.write(home, loader.load(home))
        return archives.of_folder(home)


def version(number: str, files=None, replacing=None) -> dict[str, bytes]:
    """The folder at another version, with texts of its manifest replaced."""
    made = dict(files or folder())
    manifest = made["manifest.yaml"].decode()
    current = manifest.split("version:", 1)[1].split("\n", 1)[0]
    manifest = manifest.replace(f"version:{current}", f"version: {number}", 1)
    for old, new in (replacing or {}).items():
        assert old in manifest, old
        manifest = manifest.replace(old, new)
    made["manifest.yaml"] = manifest.encode()
    made.pop("contract.json", None)
    return with_contract(made, "acme-chat")


def zipped(files, around: str = "acme-chat/") -> bytes:
    """A zip as people make it, the folder around it."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as out:
        for name, body in files.items():
            out.writestr(around + name, body)
    return held.getvalue()


def people(session, key: str = "acme"):
    """A vendor's owner and an operator."""
    firm = make_organization(session, name=f"{key} 软件", is_vendor=True)
    words = {"zh": f"{key} 软件", "en": f"{key} Software"}
    make_vendor(session, key=key, name=words, organization_id=firm.id)
    hub = make_organization(session, name=f"运营 {key}", is_operator=True)
    return make_member(session, firm), make_member(session, hub)


def principal_of(member) -> Principal:
    return acting(member)


def published(owner, operator, files=None):
    """An edition that went all the way; gives its row."""
    edition = checked(owner, files)
    assert edition.state == "checked", (edition.findings, edition.trial)
    deeds.submit(owner, edition.id)
    return deeds.decide(operator, edition.id, "approve", "")


def checked(owner, files=None):
    """An edition that the machine has looked at."""
    edition = deeds.upload(owner, files or folder())
    while checks.work():
        pass
    with transaction(EVERY) as session:
        return editions.find(session, edition.id)


@contextmanager
def serve_app(app):
    """Serve the hub on a free local port."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
