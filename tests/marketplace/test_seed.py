"""Seeding: repeatable, demo log-ins that work, and demo vendors that die with their parent."""

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlmodel import col

from catalog.tables import App, Bundle, Vendor
from identity import organizations, passwords, users
from identity.tables import Member, Organization, User
from kernel.database import EVERY, reading, transaction
from kernel.settings import settings_override
from marketplace import demo_vendors, seed

HOUSE = Path(__file__).resolve().parents[2]


@pytest.fixture
def demo(database, tmp_path):
    """Demo mode with a data folder of its own."""
    with settings_override(demo=True, data_dir=str(tmp_path)):
        yield tmp_path


def count(table) -> int:
    with reading(EVERY) as session:
        return session.execute(select(func.count()).select_from(table)).scalar_one()


def test_without_demo_only_the_catalogue_is_there(database, tmp_path):
    with settings_override(demo=False, data_dir=str(tmp_path)):
        assert seed.seed() == []
    assert count(App) >= 100
    assert count(Organization) == 0
    with reading(EVERY) as session:
        assert session.execute(select(Bundle).where(col(Bundle.is_demo))).first() is None


def test_the_printed_log_ins_work_and_stay_the_same(demo):
    lines = seed.seed()
    assert len(lines) == 5
    wide = [sum(2 if "一" <= c <= "鿿" else 1 for c in line.partition("@")[0]) for line in lines]
    names = [len(line.split()[-2].partition("@")[0]) for line in lines]
    assert len({width - name for width, name in zip(wide, names, strict=True)}) == 1  # one column
    with reading(EVERY) as session:
        for line in lines:
            *_, email, password = line.split()
            user = users.find_by_email(session, email)
            assert passwords.verify(user.password_digest, password)
        shop = session.execute(
            select(Organization).where(col(Organization.name) == "扬帆示例工厂")
        ).scalar_one()
        roles = session.execute(
            select(Member.role).where(col(Member.organization_id) == shop.id)
        ).scalars()
        assert sorted(roles) == ["integrator", "member", "owner"]
        vendor = session.execute(
            select(Vendor).where(col(Vendor.key) == seed.DEMO_VENDOR_KEY)
        ).scalar_one()
        assert session.get(Organization, vendor.organization_id).is_vendor
    assert (demo / "demo-login.json").stat().st_mode & 0o077 == 0
    before = [count(table) for table in (App, Bundle, User, Member, Organization)]
    assert seed.seed() == lines
    assert [count(table) for table in (App, Bundle, User, Member, Organization)] == before


def test_what_people_changed_is_left_alone(demo):
    seed.seed()
    with transaction(EVERY) as session:
        owner = users.find_by_email(session, seed.FIRMS[0].seats[0].email)
        firm = organizations.list_of_user(session, owner.id)[0][0]
        organizations.change(session, firm.id, name="改名工厂")
        users.set_password(session, owner.id, "other")
    seed.seed()
    with reading(EVERY) as session:
        assert session.get(Organization, firm.id).name == "改名工厂"
        assert session.get(User, owner.id).password_digest == "other"


def test_two_processes_seed_at_once(demo):
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: seed.seed(), range(2))
    assert [line.split()[-2] for line in first] == [line.split()[-2] for line in second]
    assert count(Organization) == len(seed.FIRMS)


# --- the demo vendors' process ------------------------------------------------------------------


def free_port() -> int:
    """The first of three free ports in a row, as far as one can tell."""
    for _ in range(50):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if not any(is_open(port + n) for n in range(3)):
            return port
    raise RuntimeError("no ports")


def is_open(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def vendors_at(port: int, folder: Path):
    """Demo mode with the vendors' addresses allowed, as reading the environment does it."""
    allowed = tuple(f"127.0.0.1:{port + n}" for n in range(3))
    return settings_override(
        demo=True, data_dir=str(folder), demo_port=port, outbound_allow=allowed
    )


def test_the_demo_vendors_start_answer_and_stop(tmp_path):
    with vendors_at(free_port(), tmp_path):
        child = demo_vendors.start()
        try:
            demo_vendors.wait(child)
            assert demo_vendors.settings_of("demo-erp")["base_url"].endswith(
                str(demo_vendors.port_of("demo-erp"))
            )
            assert all(is_open(demo_vendors.port_of(key)) for key in demo_vendors.KEYS)
        finally:
            demo_vendors.stop(child)
        assert not is_open(demo_vendors.port_of("demo-shop"))
    assert demo_vendors.settings_of("demo-erp") == {}
    assert demo_vendors.settings_of("github") == {}


def test_a_port_in_use_is_said_in_plain_words(tmp_path):
    port = free_port()
    with (
        socket.create_server(("127.0.0.1", port)),
        vendors_at(port, tmp_path),
        pytest.raises(demo_vendors.DemoVendorsError, match=str(port)),
    ):
        demo_vendors.start()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks the Linux kernel")
def test_the_demo_vendors_die_with_a_killed_parent(tmp_path):
    port = free_port()
    code = (
        "import time; from marketplace import demo_vendors\n"
        "child = demo_vendors.start(); demo_vendors.wait(child)\n"
        "print(child.pid, flush=True); time.sleep(60)"
    )
    environ = {k: v for k, v in os.environ.items() if not k.startswith("YANGFAN_")}
    environ |= {
        "YANGFAN_DEMO": "1",
        "YANGFAN_DEMO_PORT": str(port),
        "YANGFAN_DATA_DIR": str(tmp_path),
    }
    parent = subprocess.Popen(
        [sys.executable, "-c", code], env=environ, cwd=HOUSE, stdout=subprocess.PIPE, text=True
    )
    try:
        child = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
        parent.wait(10)
        until = time.monotonic() + 10
        while is_open(port) and time.monotonic() < until:
            time.sleep(0.05)
        assert not is_open(port), child
    finally:
        if parent.poll() is None:
            parent.kill()
            parent.wait()
        parent.stdout.close()
