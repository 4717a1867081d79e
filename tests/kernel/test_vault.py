"""Secrets open only where they belong, with the keys of the hub, and never show themselves."""

import base64
import secrets
import traceback

import pytest

from kernel import vault
from kernel.settings import settings_override
from kernel.vault import UnknownKey, VaultError, key_id_of, open_sealed, rewrap, seal

CONTEXT = "org_1|connection|con_1|secret"
SECRET = "s3cr3t-扬帆"


def key(key_id: str) -> str:
    return f"{key_id}:{base64.b64encode(secrets.token_bytes(32)).decode()}"


OLD, NEW = key("2025-a"), key("2026_b")


@pytest.fixture(autouse=True)
def _keys():
    with settings_override(secret_keys=(NEW, OLD)):
        yield


@pytest.mark.parametrize("plaintext", [b"", b"x", b"\x00\xff" * 500, SECRET, "a" * 100_000])
def test_what_is_sealed_opens_again(plaintext):
    expected = plaintext.encode() if isinstance(plaintext, str) else plaintext
    token = seal(plaintext, CONTEXT)
    assert open_sealed(token, CONTEXT) == expected
    assert key_id_of(token) == "2026_b"
    assert token.startswith("v1.2026_b.")
    assert token.count(".") == 3


def test_the_same_value_never_gives_the_same_token():
    assert len({seal(SECRET, CONTEXT) for _ in range(50)}) == 50


def test_a_token_does_not_show_the_value():
    token = seal("plain-and-visible", CONTEXT)
    decoded = b"".join(base64.urlsafe_b64decode(part + "==") for part in token.split(".")[2:])
    assert b"visible" not in decoded
    assert "visible" not in token


@pytest.mark.parametrize(
    "context",
    ["", "org_2|connection|con_1|secret", "org_1|connection|con_2|secret", CONTEXT + " ",
     "org_1|connection|con_1|refresh", "org_1|connection|con_1"],
)  # fmt: skip
def test_a_token_moved_elsewhere_does_not_open(context):
    token = seal(SECRET, CONTEXT)
    with pytest.raises(VaultError):
        open_sealed(token, context)
    with settings_override(secret_keys=(OLD, NEW)), pytest.raises(VaultError):
        rewrap(token, context)


def test_every_changed_character_is_noticed():
    token = seal(SECRET, CONTEXT)
    for place, letter in enumerate(token):
        for other in {"A", "B", ".", "=", " ", "é"} - {letter}:
            with pytest.raises(VaultError):
                open_sealed(token[:place] + other + token[place + 1 :], CONTEXT)
        with pytest.raises(VaultError):
            open_sealed(token[:place] + token[place + 1 :], CONTEXT)


def test_parts_of_two_tokens_do_not_mix():
    one, two = (seal(text, CONTEXT).split(".") for text in ("one", "two"))
    for mixed in ([*one[:3], two[3]], [*one[:2], two[2], one[3]]):
        with pytest.raises(VaultError):
            open_sealed(".".join(mixed), CONTEXT)


@pytest.mark.parametrize(
    "token", ["", "v1", "v1...", "v2.k.a.b", "plain", "v1.k.AA.AA", "v1.k.!.?"]
)
def test_what_is_no_token_is_refused(token):
    for use in (lambda: open_sealed(token, CONTEXT), lambda: rewrap(token, CONTEXT)):
        with pytest.raises(VaultError):
            use()


def test_a_new_key_seals_the_old_one_still_opens_and_rewrap_moves_over():
    with settings_override(secret_keys=(OLD,)):
        token = seal(SECRET, CONTEXT)
    assert key_id_of(token) == "2025-a"
    assert open_sealed(token, CONTEXT).decode() == SECRET
    moved = rewrap(token, CONTEXT)
    assert key_id_of(moved) == "2026_b"
    assert moved.split(".")[3] == token.split(".")[3]
    assert rewrap(moved, CONTEXT) == moved
    with settings_override(secret_keys=(NEW,)):
        assert open_sealed(moved, CONTEXT).decode() == SECRET
        for use in (open_sealed, rewrap):
            with pytest.raises(UnknownKey, match="2025-a"):
                use(token, CONTEXT)


def test_another_key_under_the_same_id_does_not_open():
    token = seal(SECRET, CONTEXT)
    with settings_override(secret_keys=(key("2026_b"),)), pytest.raises(VaultError):
        open_sealed(token, CONTEXT)


def test_errors_never_carry_the_value_or_a_key():
    token = seal(SECRET, CONTEXT)
    attempts = [
        lambda: open_sealed(token, "elsewhere"),
        lambda: open_sealed(token[:-1], CONTEXT),
        lambda: seal(SECRET + "\ud800", CONTEXT),
    ]
    for attempt in attempts:
        with pytest.raises(VaultError) as caught:
            attempt()
        shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value.args)
        assert "s3cr3t" not in shown
        assert token.split(".")[3][:8] not in shown
        assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "bad",
    ["k1:" + base64.b64encode(b"short").decode(), "k.1:" + "QUFB" * 10 + "QUE=", ":" + "A" * 44],
)
def test_a_wrong_key_in_the_settings_is_named_but_not_shown(bad):
    with settings_override(secret_keys=(bad,)), pytest.raises(VaultError) as caught:
        seal(SECRET, CONTEXT)
    assert "secret key" in str(caught.value)
    assert bad.split(":")[1] not in str(caught.value)


def test_an_embedded_hub_makes_its_own_key_once(tmp_path):
    with settings_override(secret_keys=(), data_dir=str(tmp_path)):
        token = seal(SECRET, CONTEXT)
    with settings_override(secret_keys=(), data_dir=str(tmp_path)):
        assert open_sealed(token, CONTEXT).decode() == SECRET
    assert [path.name for path in tmp_path.iterdir()] == ["secret.key"]
    assert vault.key_id_of(token) == "k1"
