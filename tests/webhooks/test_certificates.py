"""Client certificates: taken only when they can work, shown to real servers that demand them."""

import datetime as dt
import ipaddress
import ssl
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pycurl
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from factories import identity
from factories import webhooks as make

from kernel import clock, http
from kernel.errors import Invalid
from kernel.http import ClientCertificate, Request
from kernel.settings import settings_override
from webhooks import certificates, drain
from webhooks.tables import Attempt, Delivery, Endpoint


def name_of(text):
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def pem_of(key, password=None):
    hiding = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, hiding).decode()


class Authority:
    """A private authority that signs certificates for this file."""

    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate, _ = self.sign("authority", self.key, is_authority=True)

    def sign(self, name, key=None, *, start=-3, days=90, use=None, is_authority=False):
        """A certificate for the name and the key it belongs to, both as PEM."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder(
                name_of("authority"), name_of(name), key.public_key(), x509.random_serial_number()
            )
            .not_valid_before(now + dt.timedelta(days=start))
            .not_valid_after(now + dt.timedelta(days=days))
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
                critical=False,
            )
        )
        if use:
            builder = builder.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        made = builder.sign(self.key, hashes.SHA256())
        return made.public_bytes(serialization.Encoding.PEM).decode(), pem_of(key)


@pytest.fixture(scope="module")
def authority():
    return Authority()


@contextmanager
def demanding(authority, folder, monkeypatch):
    """A TLS server that lets in nobody without a certificate; gives (url, who called, peers)."""
    certificate, key = authority.sign("127.0.0.1")
    (folder / "server.pem").write_text(certificate + key)
    (folder / "authority.pem").write_text(authority.certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    context.load_verify_locations(folder / "authority.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    callers, peers = [], []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            self.rfile.read(int(self.headers.get("content-length", 0)))
            ((_, name),) = self.connection.getpeercert()["subject"][0]
            callers.append(name)
            peers.append(self.client_address)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def finish_request(self, request, address):
            request.settimeout(5)
            try:
                with context.wrap_socket(request, server_side=True) as secured:
                    super().finish_request(secured, address)
            except OSError:
                pass  # whoever has no certificate does not get further

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.03,), daemon=True).start()
    port = server.server_address[1]
    trusted = (pycurl.CAINFO, str(folder / "authority.pem"))
    monkeypatch.setattr(http, "_FIXED_OPTIONS", (*http._FIXED_OPTIONS, trusted))
    try:
        with settings_override(outbound_allow=(f"127.0.0.1:{port}",)):
            yield f"https://127.0.0.1:{port}/hook", callers, peers
    finally:
        server.shutdown()
        server.server_close()


def test_every_caller_is_who_its_own_certificate_says(authority, tmp_path, monkeypatch):
    """One connection or TLS session shared by two certificates would mistake one for the other."""
    shown = {
        name: ClientCertificate(*(text.encode() for text in authority.sign(name)))
        for name in ("alpha", "beta")
    }
    with demanding(authority, tmp_path, monkeypatch) as (url, callers, peers):
        order = ["alpha", "beta", "alpha", None, "beta", "beta", None]
        for name in order:
            answer = http.send(
                Request("POST", url, body=b"{}", timeout_seconds=5, certificate=shown.get(name))
            )
            assert isinstance(answer, http.Response) is (name is not None), (name, answer)
        assert callers == [name for name in order if name]
        assert len(set(peers)) == len(peers)


def test_the_key_is_in_no_text_of_a_request(authority):
    _, key = authority.sign("alpha")
    request = Request("POST", "https://x/", certificate=ClientCertificate(b"c", key.encode()))
    assert "PRIVATE" not in repr(request)


def give(endpoint, chain, key):
    return make.in_transaction(
        lambda s: certificates.give(s, "org_a", endpoint.id, chain=chain, key=key)
    )


@pytest.mark.usefixtures("database")
def test_a_delivery_shows_the_certificate_and_fails_without(authority, tmp_path, monkeypatch):
    with demanding(authority, tmp_path, monkeypatch) as (url, callers, _):
        endpoint = make.in_transaction(lambda s: make.make_endpoint(s, "org_a", url))
        make.in_transaction(lambda s: make.make_event(s, "org_a"))
        drain.drain("w1")
        assert [one.state for one in make.rows(Delivery)] == ["waiting"]
        chain, key = authority.sign("firm")
        give(endpoint, chain + authority.certificate, key)
        make.in_transaction(lambda s: make.make_event(s, "org_a"))
        drain.drain("w1")
    assert callers == ["firm"]
    assert sorted(one.state for one in make.rows(Delivery)) == ["delivered", "waiting"]
    kept = str([one.model_dump() for one in (*make.rows(Endpoint), *make.rows(Attempt))])
    assert "PRIVATE KEY" not in kept


@pytest.mark.usefixtures("database")
def test_what_cannot_work_is_refused_with_its_place(authority):
    endpoint = make.in_transaction(lambda s: make.make_endpoint(s, "org_a"))
    good, key = authority.sign("firm")
    weak = rsa.generate_private_key(65537, 1024)
    odd = ec.generate_private_key(ec.SECP256K1())
    hidden = pem_of(ec.generate_private_key(ec.SECP256R1()), b"secret")
    server_only = x509.oid.ExtendedKeyUsageOID.SERVER_AUTH
    for chain, given, pointer in (
        ("nothing", key, "/certificate"),
        (good, "nothing", "/private_key"),
        (good, hidden, "/private_key"),
        (good, authority.sign("firm")[1], "/private_key"),
        (*authority.sign("firm", days=-1), "/certificate"),
        (*authority.sign("firm", start=1), "/certificate"),
        (*authority.sign("firm", use=server_only), "/certificate"),
        (*authority.sign("firm", weak), "/private_key"),
        (*authority.sign("firm", odd), "/private_key"),
        (good * 11, key, "/certificate"),
    ):
        with pytest.raises(Invalid) as refused:
            give(endpoint, chain, given)
        assert refused.value.errors[0]["pointer"] == pointer
    assert make.row(Endpoint, endpoint.id).client_certificate is None
    kept = give(endpoint, *authority.sign("firm", rsa.generate_private_key(65537, 2048)))
    assert certificates.shown(kept) == {
        "subject": "CN=firm", "issuer": "CN=authority", "state": "good",
    }  # fmt: skip
    for days, state in ((61, "soon"), (91, "expired")):
        with clock.shifted(seconds=days * 86400):
            assert certificates.shown(kept)["state"] == state


def test_on_the_page_and_over_json(client, database, authority):
    def setup(session):
        organization = identity.make_organization(session)
        member = identity.make_member(session, organization, role="integrator")
        identity.sign_in(client, session, member)
        key = identity.make_api_key(session, organization, role="integrator")
        return make.make_endpoint(session, member.organization_id), key

    endpoint, api_key = make.in_transaction(setup)
    base = f"/endpoints/{endpoint.id}"
    chain, key = authority.sign("firm", days=10)
    token = identity.csrf_of(client, "/sources")

    def post(path, **form):
        return client.post(f"{base}{path}", data={"csrf_token": token, **form})

    assert post("/certificate", certificate=chain, private_key=key).status_code == 303
    page = client.get(f"{base}?lang=en").get_data(as_text=True)
    assert "CN=firm" in page
    assert "within 30 days" in page
    refused = post("/certificate", certificate=chain, private_key=authority.sign("x")[1])
    assert refused.status_code == 422
    assert "PRIVATE KEY-----\n" not in refused.get_data(as_text=True)
    assert post("/certificate/remove").status_code == 303
    assert "CN=firm" not in client.get(base).get_data(as_text=True)

    path, asking = f"/api/v1{base}/certificate", {"Authorization": f"Bearer {api_key}"}
    body = {"certificate": chain, "private_key": key}
    put = client.put(path, json=body, headers=asking)
    assert (put.status_code, put.json["client_certificate"]) == (200, chain)
    assert "private_key" not in put.get_data(as_text=True)
    wrong = client.put(path, json={**body, "private_key": "x"}, headers=asking)
    assert wrong.json["errors"][0]["pointer"] == "/private_key"
    assert client.delete(path, headers=asking).json["certificate_until"] is None
