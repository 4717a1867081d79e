"""Full disks: the database's own small disk runs full while events come in, and has room again."""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.faults import outages
from bench.faults.private_servers import Postgres, ServiceMissingError
from bench.faults.stage import EMBEDDED, Private, Stage

SQLITE_MB, POSTGRES_MB = 64, 320
FULL_SECONDS = 6.0
_BLOCK = b"\0" * 65536


class Disk:
    """A small filesystem in memory; raises ServiceMissingError where it cannot be mounted."""

    def __init__(self, folder: Path, size_mb: int, closing: ExitStack) -> None:
        if os.geteuid() != 0 or not shutil.which("mount"):
            raise ServiceMissingError("disk_full: only root may mount a small filesystem")
        folder.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m,mode=755", "tmpfs", folder]
        made = subprocess.run(command, check=False, capture_output=True)
        if made.returncode:
            why = made.stderr.decode().strip()
            raise ServiceMissingError(f"disk_full: a small filesystem cannot be mounted: {why}")
        closing.callback(self._unmount)
        self.folder, self._ballast = folder, folder / "ballast"

    def _unmount(self) -> None:
        subprocess.run(["umount", "-l", self.folder], check=False, capture_output=True)

    def fill(self) -> None:
        """Leave no room."""
        # unbuffered: what does not fit must not be tried again when the file is closed
        with contextlib.suppress(OSError), self._ballast.open("ab", buffering=0) as file:
            while file.write(_BLOCK) == len(_BLOCK):
                pass

    def empty(self) -> None:
        """Make room again."""
        self._ballast.unlink(missing_ok=True)


class Full:
    """A stage whose database has a small disk of its own."""

    def __init__(self, mode: str, private: Private | None, closing: ExitStack, at: Path) -> None:
        self.postgres: Postgres | None = None
        if mode == EMBEDDED:
            self.disk = Disk(at / "disk", SQLITE_MB, closing)
            url = f"sqlite:///{self.disk.folder}/hub.db"
            self.stage = Stage(mode, environment={"YANGFAN_DATABASE_URL": url})
        else:
            assert private is not None
            self.disk = Disk(at / "disk", POSTGRES_MB, closing)
            self.postgres = Postgres(self.disk.folder / "postgres")
            closing.callback(self.postgres.stop)
            self.postgres.start()
            self.stage = Stage(mode, Private(self.postgres, private.rabbitmq))
        self.stage.is_in_a_hurry = True
        closing.callback(self.stage.close)

    def fault(self) -> Callable[[], dict[str, Any]]:
        """Fill the disk, look at the answers, make room."""

        def run() -> dict[str, Any]:
            time.sleep(2)
            said, waits = set[str](), set[bool]()
            first_503 = None
            began = until = time.monotonic()
            until += FULL_SECONDS
            while time.monotonic() < until:
                self.disk.fill()  # what a checkpoint or a log gives back is filled as well
                answer = outages.knock(self.stage)
                if answer is not None and answer.status_code == 503:
                    waits.add("Retry-After" in answer.headers)
                    first_503 = first_503 or time.monotonic() - began
                # until the last page is taken events may well go in
                if first_503 is not None:
                    said.add("none" if answer is None else str(answer.status_code))
                elif time.monotonic() > until - 1:
                    until += 1  # not full yet
                    if until - began > 4 * FULL_SECONDS:
                        break
                time.sleep(0.1)
            self.disk.empty()
            is_down = self._start_again()
            return {
                "answers_while_full": sorted(said),
                "was_full": first_503 is not None,
                "retry_after": waits == {True},
                "postgresql_stopped": is_down,
                "recovery_s": round(outages.until_accepted(self.stage), 2),
            }

        return run

    def _start_again(self) -> bool:
        """Start a PostgreSQL that has stopped for want of room, as whoever watches it would."""
        server = self.postgres
        if server is None or server.process is None:
            return False
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.process.wait(2)
            server.start()
            return True
        return False
