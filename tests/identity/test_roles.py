"""Who may do what: the whole matrix, written out once more by hand."""

import pytest

from identity import roles

EVERYDAY = "organization:read members:read installations:read approvals:decide"
WIRING = """flows:read flows:write flows:run runs:read runs:replay connections:read
connections:write assistants:call sources:read sources:write events:read events:send events:replay
endpoints:read endpoints:write
deliveries:read deliveries:replay event_types:read event_types:write stores:read stores:write"""
ALL = f"""{EVERYDAY} {WIRING} organization:write members:write api_keys:read api_keys:write
audit:read apps:install orders:write data:keep data:export data:erase"""
MATRIX = {
    "owner": ALL,
    "admin": ALL,
    "purchaser": f"{EVERYDAY} apps:install orders:write connections:read flows:read",
    "finance": f"{EVERYDAY} orders:write audit:read",
    "member": EVERYDAY,
    "integrator": f"{EVERYDAY} {WIRING}",
}


@pytest.mark.parametrize("role", roles.ROLES)
def test_the_matrix(role):
    assert roles.permissions_of(role) == set(MATRIX[role].split())


def test_every_role_and_permission_has_words():
    assert set(MATRIX) == set(roles.ROLES) == set(roles.ROLE_TITLES) == set(roles.ROLE_SENTENCES)
    assert all(roles.PERMISSIONS.values())


@pytest.mark.parametrize("role", roles.ROLES)
def test_vendors_and_operators_get_their_own_and_nothing_else(role):
    plain = roles.permissions_of(role)
    vendor = roles.permissions_of(role, is_vendor=True) - plain
    operator = roles.permissions_of(role, is_operator=True) - plain
    assert vendor == ({"releases:submit"} if role in ("owner", "admin", "integrator") else set())
    assert operator == (
        {"releases:review", "vendors:review", "hub:operate", "tenants:change"}
        if role in ("owner", "admin")
        else set()
    )


def test_an_unknown_role_may_nothing():
    assert roles.permissions_of("emperor", is_vendor=True, is_operator=True) == set()


@pytest.mark.parametrize("actor", [*roles.ROLES, "emperor"])
@pytest.mark.parametrize("role", [*roles.ROLES, "emperor"])
def test_who_hands_out_what(actor, role):
    expected = role != "emperor" and (actor == "owner" or (actor == "admin" and role != "owner"))
    assert roles.may_assign(actor, role) == expected
