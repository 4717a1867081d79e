"""Mail servers for tests: aiosmtpd with TLS and sign-in, and a Dovecot of one's own."""

import contextlib
import os
import pwd
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from pathlib import Path

import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

NAME, PASSWORD = "sales@example.com", "example-word"
DOVECOT = shutil.which("dovecot") or "/usr/sbin/dovecot"


@dataclass
class Mailman:
    """What the server was given, and how it is to behave."""

    mails: list = field(default_factory=list)
    sign_ins: list = field(default_factory=list)
    refuse: dict = field(default_factory=dict)  # address → reply
    data_reply: str | None = None
    hang_after_data: bool = False

    async def handle_RCPT(self, server, session, envelope, address, options):  # noqa: N802
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        if self.data_reply:
            return self.data_reply
        self.mails.append((envelope.mail_from, list(envelope.rcpt_tos), envelope.content))
        if self.hang_after_data:
            server.transport.abort()  # taken, and nobody will ever tell
        return "250 2.0.0 queued as 1"

    def message(self, place=-1):
        return message_from_bytes(self.mails[place][2], policy=policy.default)


class _Controller(Controller):
    def __init__(self, handler, *, context, is_starttls, has_tls, **more):
        self._more = more
        self._tls = {"tls_context": context, "require_starttls": True} if is_starttls else {}
        super().__init__(
            handler, hostname="127.0.0.1", port=0, ssl_context=context if has_tls else None
        )

    def factory(self):
        return SMTP(self.handler, hostname="mail.example.com", **self._tls, **self._more)

    def _trigger_server(self):
        # the port is only known once the server listens
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@contextlib.contextmanager
def smtp_server(authority: trustme.CA, way: str = "smtps") -> Iterator[tuple[Mailman, int]]:
    """Serve SMTP: `smtps`, `smtp` (STARTTLS) or `plain` without any encryption."""
    mailman = Mailman()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("mail.example.com", "127.0.0.1").configure_cert(context)

    def authenticate(server, session, envelope, mechanism, given):
        assert isinstance(given, LoginPassword)
        mailman.sign_ins.append((given.login.decode(), given.password.decode(), session.ssl))
        good = (given.login, given.password) == (NAME.encode(), PASSWORD.encode())
        return AuthResult(success=good, handled=good)

    controller = _Controller(
        mailman,
        context=context,
        is_starttls=way == "smtp",
        has_tls=way == "smtps",
        authenticator=authenticate,
        auth_required=True,
        # under TLS from the start the library does not see that the wire is encrypted
        auth_require_tls=way == "smtp",
        enable_SMTPUTF8=True,
    )
    controller.start()
    try:
        yield mailman, controller.port
    finally:
        controller.stop()


_CONFIG = """
protocols = imap
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
mail_location = maildir:{folder}/mail
default_internal_user = nobody
default_login_user = nobody
default_internal_group = nogroup
service imap-login {{
  chroot =
  inet_listener imap {{
    address = 127.0.0.1
    port = {plain}
  }}
  inet_listener imaps {{
    address = 127.0.0.1
    port = {port}
    ssl = yes
  }}
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
ssl = required
ssl_cert = <{folder}/cert.pem
ssl_key = <{folder}/key.pem
disable_plaintext_auth = yes
auth_mechanisms = plain login
first_valid_uid = 1
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={folder}/home
}}
"""


@dataclass
class Mailbox:
    """A running Dovecot and the folder its mail lies in."""

    folder: Path
    port: int  # TLS from the start
    plain: int  # STARTTLS

    def put(self, raw: bytes, mailbox: str = "INBOX") -> None:
        """Deliver a mail."""
        import imaplib

        with imaplib.IMAP4("127.0.0.1", self.plain) as client:
            context = ssl._create_unverified_context()
            client.starttls(context)
            client.login(NAME, PASSWORD)
            if mailbox != "INBOX":
                client.create(mailbox)
            kind, said = client.append(mailbox, None, None, raw)
            assert kind == "OK", said

    def command(self, work) -> None:
        """Do something as the mailbox's owner."""
        import imaplib

        with imaplib.IMAP4("127.0.0.1", self.plain) as client:
            client.starttls(ssl._create_unverified_context())
            client.login(NAME, PASSWORD)
            client.select("INBOX")
            work(client)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def imap_server(authority: trustme.CA, folder: Path) -> Iterator[Mailbox]:
    """Serve IMAP by a Dovecot whose files all lie in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    owner = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    made = authority.issue_cert("mail.example.com", "127.0.0.1")
    (folder / "cert.pem").write_bytes(b"".join(one.bytes() for one in made.cert_chain_pems))
    (folder / "key.pem").write_bytes(made.private_key_pem.bytes())
    for name in ("mail", "home", "run", "state"):
        (folder / name).mkdir(exist_ok=True)
    for name in ("mail", "home"):
        os.chown(folder / name, owner.pw_uid, owner.pw_gid)
    port, plain = free_port(), free_port()
    config = folder / "dovecot.conf"
    config.write_text(
        _CONFIG.format(
            folder=folder, port=port, plain=plain, password=PASSWORD,
            uid=owner.pw_uid, gid=owner.pw_gid,
        )
    )  # fmt: skip
    process = subprocess.Popen([DOVECOT, "-F", "-c", str(config)])
    try:
        _wait(plain, folder)
        yield Mailbox(folder, port, plain)
    finally:
        process.terminate()
        process.wait(timeout=10)


def _wait(port: int, folder: Path) -> None:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    log = folder / "log"
    raise AssertionError(log.read_text() if log.exists() else "Dovecot did not start")


@contextlib.contextmanager
def scripted(*lines: bytes, context: ssl.SSLContext | None = None, drip: float = 0.0):
    """Serve one connection by rote: say a line, hear one, and so on; then say nothing more."""
    listener = socket.create_server(("127.0.0.1", 0))
    heard: list[bytes] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            raw, _ = listener.accept()
            with raw, context.wrap_socket(raw, server_side=True) if context else raw as talk:
                file = talk.makefile("rb")
                for line in lines:
                    talk.sendall(line)
                    heard.append(file.readline())
                while drip:
                    talk.sendall(b"2")
                    time.sleep(drip)
                file.readline()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], heard
    finally:
        listener.close()
