"""Redmine: the tasks. A Debian package, run as an instance of its own with its own folder."""

import json
import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import requests

from bench.real.rooms import SETUPS, NotInstalledError, Room

HOME = Path("/usr/share/redmine")
PROJECT = "events"
ANSWERS = """redmine redmine/instances/default/dbconfig-install boolean false
redmine redmine/instances/default/database-type select sqlite3
"""
# From Redmine's folder of instances to the root, however its links are followed, and down again.
UP = "../" * 8
PAGE = 100


class Redmine(Room):
    """Redmine from Debian, on SQLite, served by WEBrick."""

    key = "redmine"
    wants = "redmine redmine-sqlite ruby-webrick"

    @property
    def cwd(self) -> Path:
        """Redmine's commands run in its own folder, once it is there."""
        return HOME if HOME.exists() else self.folder

    def install(self) -> None:
        """Install the Debian packages as root; raises NotInstalledError elsewhere."""
        if (HOME / "config.ru").exists() and shutil.which("rackup"):
            return
        if shutil.which("apt-get") is None:
            raise NotInstalledError("it comes as a Debian package, and there is no apt-get here")
        if os.geteuid() != 0:
            raise NotInstalledError("its Debian package can be installed by root alone")
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        self.tool("debconf-set-selections", text=ANSWERS, seconds=60)
        get = ("apt-get", "install", "-y", "-qq", "--no-install-recommends", *self.wants.split())
        try:
            self.tool(*get, more=quiet, seconds=400)
        except NotInstalledError:  # an old list of what there is
            self.tool("apt-get", "update", "-qq", more=quiet, seconds=120)
            self.tool(*get, more=quiet, seconds=400)

    def version(self) -> str:
        """Return the package's version."""
        return self.tool("dpkg-query", "-W", "-f", "${Version}", "redmine", seconds=30).strip()

    def environment(self, state: Path) -> dict[str, str]:
        """Return which instance is meant: a path, from Redmine's folder of instances."""
        return {
            "REDMINE_INSTANCE": UP + str(state).lstrip("/"),
            "RAILS_ENV": "production",
            "REDMINE_LANG": "zh",
            "SCHEMA": str(state / "schema.rb"),
        }

    def make_base(self) -> dict[str, Any]:
        """Make the database with the usual trackers, a project, and the hub's key."""
        for name in ("config", "files", "log", "public", "tmp/cache"):
            (self.base / name).mkdir(parents=True)
        self._configure(self.base)
        (self.base / "config" / "secret_key.txt").write_text(secrets.token_hex(40))
        self.tool("bundle", "exec", "rake", "db:migrate", seconds=400)
        self.tool("bundle", "exec", "rake", "redmine:load_default_data")
        said = self.tool("bundle", "exec", "rails", "runner", SETUPS / "redmine_setup.rb")
        facts: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
        return facts

    def _configure(self, state: Path) -> None:
        (state / "config" / "database.yml").write_text(
            "production:\n  adapter: sqlite3\n  timeout: 20000\n"
            f"  database: {state}/redmine.sqlite3\n"
        )
        (state / "config" / "configuration.yml").write_text(
            f"default:\n  attachments_storage_path: {state}/files\n"
        )

    def command(self) -> Sequence[str]:
        """Return the server's command; the gem of WEBrick is not in Redmine's own list."""
        self._configure(self.state)
        gems = sorted(Path("/usr/share/rubygems-integration/all/gems").glob("webrick-*/lib"))
        where = [part for gem in gems[-1:] for part in ("-I", str(gem))]
        return (
            *("rackup", "-E", "production", "-s", "webrick"),
            *("-o", "127.0.0.1", "-p", str(self.port), *where),
            str(SETUPS / "redmine.ru"),
        )

    def is_ready(self) -> bool:
        """Tell whether the key is taken."""
        address = f"{self.url}/users/current.json"
        return requests.get(address, headers=self._headers, timeout=30).status_code == 200

    def connection(self) -> dict[str, Any]:
        """Return what the hub's connection is made of."""
        return {
            "connector": "redmine",
            "auth": "key",
            "fields": {"key": self.facts["key"]},
            "settings": {"base_url": self.url},
        }

    def subjects(self) -> list[str]:
        """Return the subjects of all issues."""
        found: list[str] = []
        while True:
            answer = requests.get(
                f"{self.url}/issues.json",
                params={"status_id": "*", "limit": str(PAGE), "offset": str(len(found))},
                headers=self._headers,
                timeout=60,
            )
            answer.raise_for_status()
            page = answer.json()
            found += [str(one["subject"]) for one in page["issues"]]
            if not page["issues"] or len(found) >= page["total_count"]:
                return found

    @property
    def _headers(self) -> dict[str, str]:
        return {"X-Redmine-API-Key": self.facts["key"]}
