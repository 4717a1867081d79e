"""File servers for tests: an OpenSSH server of one's own, and asyncssh's for passwords."""

import asyncio
import base64
import contextlib
import getpass
import hashlib
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncssh

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"

_CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
PidFile {folder}/pid
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
Subsystem sftp internal-sftp -d {folder}/files
LogLevel ERROR
"""


@dataclass
class Server:
    """A running server: where its files lie, how it is known and who may come in."""

    files: Path
    port: int
    fingerprint: str
    private_key: str
    username: str


def fingerprint_of(public: str) -> str:
    digest = hashlib.sha256(base64.b64decode(public.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def openssh(folder: Path) -> Iterator[Server]:
    """Serve a folder by OpenSSH; whoever has the key may come in."""
    (folder / "files").mkdir(parents=True)
    Path("/run/sshd").mkdir(exist_ok=True)
    for name in ("host_key", "user_key"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True
        )
    shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
    port = free_port()
    config = folder / "sshd_config"
    config.write_text(_CONFIG.format(folder=folder, port=port))
    process = subprocess.Popen([SSHD, "-D", "-e", "-f", config])
    try:
        _wait(port)
        yield Server(
            folder / "files",
            port,
            fingerprint_of((folder / "host_key.pub").read_text()),
            (folder / "user_key").read_text(),
            getpass.getuser(),
        )
    finally:
        process.terminate()
        process.wait(timeout=10)


@contextlib.contextmanager
def with_password(folder: Path, username: str, password: str) -> Iterator[Server]:
    """Serve a folder by asyncssh to whoever has the password."""
    folder.mkdir(parents=True, exist_ok=True)
    key, port = asyncssh.generate_private_key("ssh-ed25519"), free_port()
    loop = asyncio.new_event_loop()

    class Door(asyncssh.SSHServer):
        def begin_auth(self, _username):
            return True

        def password_auth_supported(self):
            return True

        def validate_password(self, name, given):
            return (name, given) == (username, password)

    def serve() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(
            asyncssh.create_server(
                Door, "127.0.0.1", port, server_host_keys=[key], sftp_factory=root
            )
        )
        loop.run_forever()

    def root(channel):
        return asyncssh.SFTPServer(channel, chroot=str(folder))

    threading.Thread(target=serve, daemon=True).start()
    _wait(port)
    public = key.export_public_key().decode()
    try:
        yield Server(folder, port, fingerprint_of(public), "", username)
    finally:
        loop.call_soon_threadsafe(loop.stop)


def _wait(port: int) -> None:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("the file server did not start")
