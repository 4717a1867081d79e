"""Passwords: what is refused and why, and that hashing keeps its bounds."""

import pytest
from factories.identity import PASSWORD, cheap_digest
from hypothesis import given, settings
from hypothesis import strategies as st

from identity import passwords
from kernel.errors import Invalid

pytestmark = pytest.mark.costly

ABOUT = ("zhang.wei@minghua-steel.com", "张伟民", "明华精密钢铁")


@pytest.mark.parametrize(
    "password",
    [
        "short",
        "ninechars",
        "x" * 129,
        "password2024!",
        "P@ssw0rd12345",
        "qwertyuiop123",
        "1qaz2wsx3edc",
        "asdfghjkl;'",
        "aaaaaaaaaaaa",
        "abababababab",
        "abcdefghijkl",
        "987654321098",
        "woaini1314520",
        "iloveyou521!",
        "admin@admin123",
        "Yangfan2024!!",
        "13987602451",
        "19850412888",
        "zhangwei@88",
        "minghua-steel1",
        "张伟民张伟民123",
        "明华精密钢铁2024",
        "我爱你中国我爱你中国",
    ],
)
def test_what_is_guessed_first_is_refused(password):
    assert passwords.weakness(password, about=ABOUT)
    with pytest.raises(Invalid) as caught:
        passwords.check_strength(password, about=ABOUT)
    assert caught.value.errors[0]["pointer"] == "/password"


@pytest.mark.parametrize(
    "password",
    [
        PASSWORD,
        "correct horse battery",
        "tr4 tomato veil",
        "Xq7#mvB2kL9",
        "我们公司今天很开心啊",
        "床前明月光疑是地上霜",
        "all lower case letters",
        "x9" + "🙂🐟🌊⛵🏔🎋🍊🪁",
        "k" * 3 + "vmzqpwoeiruty"[:11] + "87",
        "n" + "бвгдежзийклмн",
    ],
)
def test_no_composition_rules(password):
    assert passwords.weakness(password, about=ABOUT) is None


def test_the_personal_message_is_personal():
    said = passwords.weakness("minghua-steel1", about=ABOUT)
    assert "organization" in said
    assert "tried first" in passwords.weakness("password2024!", about=ABOUT)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=140), st.lists(st.text(max_size=30), max_size=3))
def test_any_text_is_judged(password, about):
    said = passwords.weakness(password, about=about)
    if len(passwords.normalise(password)) < passwords.MIN_LENGTH:
        assert said


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="abcdefghijkmnopqrstuvwxyz0123456789 -", min_size=24, max_size=60))
def test_long_varied_text_is_accepted(password):
    if len(set(password)) >= 18:
        assert passwords.weakness(password) is None


def test_a_digest_fits_its_password_alone():
    digest = passwords.hash_password("väl kömmen 4 dig")
    assert digest.startswith("$argon2id$")
    assert passwords.verify(digest, "väl kömmen 4 dig")
    assert passwords.verify(digest, "va\u0308l ko\u0308mmen 4 dig")
    assert not passwords.verify(digest, "väl kömmen 4 dig ")
    assert not passwords.needs_rehash(digest)


def test_old_parameters_ask_for_a_new_digest():
    assert passwords.needs_rehash(cheap_digest())


@pytest.mark.parametrize("stored", [None, "", "not a digest", "$argon2id$v=19$broken"])
def test_what_is_no_digest_fits_nothing(stored):
    assert not passwords.verify(stored, PASSWORD)
    assert not passwords.verify(stored, "")


def test_a_giant_password_is_no_giant_work():
    assert not passwords.verify(cheap_digest(), "x" * 5_000_000)
