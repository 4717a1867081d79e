"""Keys in every dress people paste them in; what is none, or too small, is the owner's problem."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from tests.webhooks.recipes import vectors
from webhooks import recipes

NOW = vectors.at(1_700_000_000)
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def bare(pem: bytes) -> str:
    return "".join(line for line in pem.decode().splitlines() if "-----" not in line)


def certificate() -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "pay")])
    now = datetime.now(UTC)
    built = x509.CertificateBuilder(
        name, name, KEY.public_key(), 7, now - timedelta(1), now + timedelta(1)
    )
    return built.sign(KEY, hashes.SHA256()).public_bytes(Encoding.PEM)


PRIVATE = [
    KEY.private_bytes(Encoding.PEM, form, NoEncryption())
    for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL)
]
PUBLIC = [
    KEY.public_key().public_bytes(Encoding.PEM, form)
    for form in (PublicFormat.SubjectPublicKeyInfo, PublicFormat.PKCS1)
]
SIGN = [{"as": "mac", "rsa_sign": "sha256", "key": "${secret.private}", "of": "${body}"}]
VERIFY = [
    {"rsa_verify": "sha256", "key": "${secret.public}", "of": "${body}", "signature": "${mac}"}
]


@pytest.mark.parametrize("private", [*map(bytes.decode, PRIVATE), *map(bare, PRIVATE)])
@pytest.mark.parametrize(
    "public", [*map(bytes.decode, [*PUBLIC, certificate()]), *map(bare, [*PUBLIC, certificate()])]
)
def test_rsa(private, public):
    values = {"secret": {"private": private, "public": public}, "body": b"signed"}
    made = recipes.run([*SIGN, *VERIFY], values, NOW)
    with pytest.raises(recipes.Refused) as refused:
        recipes.run(VERIFY, {**made, "body": b"signeD"}, NOW)
    assert refused.value.code == "signature_mismatch"


def test_a_second_spelling_of_a_signature_is_refused():
    values = {"secret": {"private": bare(PRIVATE[0]), "public": bare(PUBLIC[0])}, "body": b"x"}
    made = recipes.run(SIGN, values, NOW)
    mac = made["mac"]
    assert mac.endswith(b"==")
    for other in (mac[:-3] + bytes([mac[-3] + 1]) + b"==", mac[:-1], mac + b"\n", mac + b"===="):
        with pytest.raises(recipes.Refused):
            recipes.run(VERIFY, {**made, "mac": other}, NOW)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "nonsense",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
        bare(PRIVATE[0]),
    ],
)
def test_what_is_no_key_is_the_owners_problem(key):
    values = {"secret": {"public": key}, "body": b"x", "mac": b"AAAA"}
    with pytest.raises(recipes.Refused) as refused:
        recipes.run(VERIFY, values, NOW)
    assert refused.value.code == "recipe_broken"


def test_a_small_rsa_key_is_refused():
    small = x509_small()
    with pytest.raises(recipes.Refused) as refused:
        recipes.run(VERIFY, {"secret": {"public": small}, "body": b"x", "mac": b"AAAA"}, NOW)
    assert refused.value.code == "recipe_broken"


def x509_small() -> str:
    numbers = rsa.RSAPublicNumbers(65537, (1 << 511) + 187)
    return bare(numbers.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


@pytest.mark.parametrize("way", ["pem", "bare", "hex"])
def test_ed25519(way):
    key = ed25519.Ed25519PrivateKey.generate()
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    given = {
        "pem": pem.decode(),
        "bare": bare(pem),
        "hex": key.public_key().public_bytes_raw().hex(),
    }
    step = {"ed25519_verify": True, "key": "${secret.k}", "of": "${body}",
            "signature": "${header.x-signature-ed25519}", "signature_is": "hex"}  # fmt: skip
    recipe = [{**step, "key_is": "hex"} if way == "hex" else step]
    values = {"secret": {"k": given[way]}, "body": b"x"}
    header = {"x-signature-ed25519": key.sign(b"x").hex()}
    recipes.run(recipe, {**values, "header": header}, NOW)
    for other in (header["x-signature-ed25519"][:-1] + "x", key.sign(b"y").hex(), ""):
        with pytest.raises(recipes.Refused) as refused:
            recipes.run(recipe, {**values, "header": {"x-signature-ed25519": other}}, NOW)
        assert refused.value.code == "signature_mismatch"
    assert recipes.check(recipe, {"secret": None, "body": None, "header": None}) == []


JWT = {"as": "claims", "jwt": "HS256", "key": "${secret.k}", "of": "${query.token}",
       "issuer": "shop", "audience": "hub", "leeway_seconds": 10}  # fmt: skip


def token(claims: str, head: str = '{"alg":"HS256"}') -> str:
    steps = [
        {"as": "a", "encode": "base64url", "of": "${head}"},
        {"as": "b", "encode": "base64url", "of": "${claims}"},
        {"as": "c", "hmac": "sha256", "key": "k" * 32, "of": "${a}.${b}", "out": "base64url"},
        {"as": "d", "text": "${a}.${b}.${c}"},
    ]
    return recipes.run(steps, {"head": head, "claims": claims}, NOW)["d"].decode()


def claims_of(sent: str, step=JWT) -> dict:
    values = {"secret": {"k": "k" * 32}, "query": {"token": sent}}
    return recipes.run([step], values, NOW)["claims"]


def test_jwt():
    good = '{"iss":"shop","aud":["hub","x"],"exp":1700000001}'
    assert claims_of(token(good))["iss"] == "shop"
    assert claims_of(token(good.replace('["hub","x"]', '"hub"')))["aud"] == "hub"


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ('{"iss":"other","aud":"hub"}', "signature_mismatch"),
        ('{"iss":"shop","aud":"other"}', "signature_mismatch"),
        ('{"iss":"shop"}', "signature_mismatch"),
        ('{"iss":"shop","aud":"hub","exp":1699999990}', "signature_stale"),
        ('{"iss":"shop","aud":"hub","nbf":1700000011}', "signature_stale"),
        ('{"iss":"shop","aud":"hub","exp":"soon"}', "signature_mismatch"),
        ("[]", "signature_mismatch"), ("{", "signature_mismatch"),
    ],
)  # fmt: skip
def test_jwt_with_wrong_claims(claims, code):
    with pytest.raises(recipes.Refused) as refused:
        claims_of(token(claims))
    assert refused.value.code == code


def test_jwt_of_another_kind():
    good = '{"iss":"shop","aud":"hub"}'
    for head in ('{"alg":"none"}', '{"alg":"HS512"}', '{"alg":"HS256","crit":["x"]}', "[]"):
        with pytest.raises(recipes.Refused):
            claims_of(token(good, head))
    sent = token(good)
    for other in (
        sent[:-1] + ("A" if sent[-1] != "A" else "B"),
        sent + ".",
        sent.rpartition(".")[0],
    ):
        with pytest.raises(recipes.Refused):
            claims_of(other)


def test_jwt_of_an_elliptic_curve():
    key = ec.generate_private_key(ec.SECP256R1())
    head, body = token('{"iss":"shop","aud":"hub"}', '{"alg":"ES256"}').split(".")[:2]
    first, second = decode_dss_signature(
        key.sign(f"{head}.{body}".encode(), ec.ECDSA(hashes.SHA256()))
    )
    raw = first.to_bytes(32, "big") + second.to_bytes(32, "big")
    mac = recipes.run([{"as": "m", "encode": "base64url", "of": "${r}"}], {"r": raw}, NOW)[
        "m"
    ].decode()
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    step = {**JWT, "jwt": "ES256", "key": pem}
    assert claims_of(f"{head}.{body}.{mac}", step)["iss"] == "shop"
    with pytest.raises(recipes.Refused):
        claims_of(f"{head}.{body}.{'A' if mac[0] != 'A' else 'B'}{mac[1:]}", step)


def test_ciphers_there_and_back():
    for length in (0, 1, 15, 16, 17, 32, 33):
        for pad in (16, 32):
            recipe = [
                {"as": "s", "encrypt": "aes_cbc", "key": "k" * 16, "iv_is": "data_head", "pad": pad,
                 "of": "${body}", "out": "hex"},
                {"as": "o", "decrypt": "aes_cbc", "key": "k" * 16, "iv_is": "data_head", "pad": pad,
                 "of": "${s}", "of_is": "hex"},
            ]  # fmt: skip
            body = bytes(range(length))
            assert recipes.run(recipe, {"body": body}, NOW)["o"] == body


def test_bad_padding_and_bad_text_are_refused_alike():
    step = {"as": "o", "decrypt": "aes_cbc", "key": "k" * 16, "iv_is": "zero", "of": "${query.s}",
            "of_is": "hex"}  # fmt: skip
    said = set()
    for sent in ("00" * 16, "11" * 16, "00" * 15, "", "00" * 32):
        with pytest.raises(recipes.Refused) as refused:
            recipes.run([step], {"query": {"s": sent}}, NOW)
        said.add((refused.value.code, refused.value.say["en"]))
    assert len(said) == 1
