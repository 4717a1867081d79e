"""Find or start PostgreSQL, RabbitMQ and Chromium, then run the command that follows.

Running services are used as they are; installed ones are started privately in a scratch folder and
stopped afterwards; on Debian as root missing ones are installed. What is still missing is said
loudly, and the tests that need it are skipped with that reason.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

POSTGRES_BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


def main(command: list[str]) -> int:
    """Run the command with the services' addresses in its environment; return its exit code."""
    _install_missing()
    with ExitStack() as started:
        scratch = Path(
            started.enter_context(tempfile.TemporaryDirectory(prefix="yangfan-services-"))
        )
        scratch.chmod(0o755)
        notes = [_postgres(started, scratch), _rabbitmq(started, scratch), _chromium()]
        for note in notes:
            print(note, flush=True)
        # many tests start a hub of their own, and none should compile the house anew for it
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        code = subprocess.call(command)
        for note in notes:
            if note.startswith("!!"):
                print(note, flush=True)
        return code


def _install_missing() -> None:
    wanted = {
        "postgresql": not _postgres_answers() and not POSTGRES_BINARIES,
        "rabbitmq-server": not _listening(5672) and not shutil.which("rabbitmq-server"),
        "chromium": not shutil.which("chromium"),
        "fonts-noto-cjk": not list(Path("/usr/share/fonts").glob("**/NotoSansCJK*")),
    }
    missing = [name for name, absent in wanted.items() if absent]
    if not missing or os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    print(f"Installing {', '.join(missing)} …", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for arguments in (["update"], ["install", "-y", "--no-install-recommends", *missing]):
        subprocess.run(
            ["apt-get", "-q", *arguments], env=environment, stdout=subprocess.DEVNULL, check=False
        )
    POSTGRES_BINARIES[:] = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _postgres_answers() -> bool:
    url = os.environ.get("YANGFAN_TEST_POSTGRES")
    if not url:
        url = "postgresql+psycopg://postgres@127.0.0.1:5432/postgres"
    try:
        import psycopg

        with psycopg.connect(url.replace("+psycopg", ""), connect_timeout=3) as connection:
            row = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
            if not row.fetchone()[0]:
                return False
    except Exception:
        return False
    os.environ["YANGFAN_TEST_POSTGRES"] = url
    return True


def _postgres(started: ExitStack, scratch: Path) -> str:
    if _postgres_answers():
        return "PostgreSQL: the running one"
    if not POSTGRES_BINARIES:
        return "!! PostgreSQL is missing: nothing of the scaled mode's store was tested"
    binaries, data, port = POSTGRES_BINARIES[0], scratch / "postgres", _free_port()
    data.mkdir()
    # initdb refuses to run as root
    user = (
        ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        if os.geteuid() == 0
        else []
    )
    if user:
        shutil.chown(data, "postgres", "postgres")
    run = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    made = subprocess.run(
        [*user, binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8"],
        check=False,
        cwd="/",
        **run,
    )
    if made.returncode:
        return f"!! PostgreSQL could not be made: {made.stderr.decode()[-300:]}"
    server = subprocess.Popen(
        [*user, binaries / "postgres", "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", data],
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    started.callback(_stop, server)
    os.environ["YANGFAN_TEST_POSTGRES"] = f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"
    if not _wait(_postgres_answers, 30):
        return "!! PostgreSQL did not start: nothing of the scaled mode's store was tested"
    return f"PostgreSQL: a private one on port {port}"


def _rabbitmq(started: ExitStack, scratch: Path) -> str:
    if os.environ.get("YANGFAN_TEST_BROKER") or _listening(5672):
        os.environ.setdefault("YANGFAN_TEST_BROKER", "amqp://guest:guest@127.0.0.1:5672//")
        return "RabbitMQ: the running one"
    if not shutil.which("rabbitmq-server"):
        return "!! RabbitMQ is missing: the scaled mode's broker was not tested"
    port, home = _free_port(), scratch / "rabbitmq"
    home.mkdir()
    home.chmod(0o777)
    environment = {
        **os.environ,
        "RABBITMQ_NODENAME": f"yangfan-{os.getpid()}@localhost",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(_free_port()),
        "RABBITMQ_MNESIA_BASE": str(home),
        "RABBITMQ_LOG_BASE": str(home),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
        "HOME": str(home),
    }
    server = subprocess.Popen(
        ["rabbitmq-server"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    started.callback(_stop, server)
    if not _wait(lambda: _listening(port), 60):
        return "!! RabbitMQ did not start: the scaled mode's broker was not tested"
    os.environ["YANGFAN_TEST_BROKER"] = f"amqp://guest:guest@127.0.0.1:{port}//"
    return f"RabbitMQ: a private one on port {port}"


def _chromium() -> str:
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if not found:
        return "!! Chromium is missing: the browser journeys were not run"
    os.environ["YANGFAN_TEST_CHROMIUM"] = found
    return f"Chromium: {found}"


def _wait(condition, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.3)
    return False


def _stop(server: subprocess.Popen) -> None:
    server.terminate()
    try:
        server.wait(20)
    except subprocess.TimeoutExpired:
        server.kill()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
