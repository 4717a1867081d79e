"""What was given in confidence stays in the vault: apps that quote it, every table, page and log.

An app may answer with whatever it was sent, in any spelling; its answers are kept and shown.
"""

import base64
import json
import logging
from urllib.parse import quote, quote_plus

import pytest
from factories.connectors import Shop, runs, settle, vendor
from factories.identity import make_api_key, make_member, sign_in
from sqlalchemy import text
from sqlmodel import SQLModel

from connectors import connection_checks, connections, masking
from identity.tables import Organization
from kernel.database import EVERY, reading, transaction

KEY = 'Zwiebel "turm"/+&=%\\7'
SPELLINGS = {
    "plain": lambda raw: raw,
    "in an address": lambda raw: quote(raw, safe=""),
    "in a path": quote,
    "in a form": quote_plus,
    "in JSON": json.dumps,
    "in base64": lambda raw: base64.b64encode(raw.encode()).decode(),
    "with its word before it": lambda raw: f"Bearer {raw}",
    "twice": lambda raw: f"{raw}{raw}",
    "between other words": lambda raw: f"the key «{raw}» is wrong",
}
SECRETS = [KEY, "sk_live_0123456789", "密钥密钥密钥密钥", "a b c d e f", "%41%42%43", "p+q/r=s=="]
SHAPES = [
    lambda said: said,
    lambda said: {"message": said},
    lambda said: {said: "a name"},
    lambda said: [[{"deep": [said]}]],
    lambda said: {"long": "x" * 70_000 + said, "start": said},
]


@pytest.mark.parametrize("shape", range(len(SHAPES)))
@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("secret", SECRETS)
def test_no_spelling_of_a_secret_is_kept(secret, spelling, shape):
    said = SPELLINGS[spelling](secret)
    kept = json.dumps(
        masking.keep(SHAPES[shape](said), [secret, "another-secret"]), ensure_ascii=False
    )
    bare = json.dumps(said, ensure_ascii=False)[1:-1]
    assert bare not in kept
    assert secret not in kept


def test_a_secret_within_a_secret_leaves_no_rest():
    kept = masking.keep("abcdef-ghijkl abcdef", ["abcdef", "abcdef-ghijkl"])
    assert kept == f"{masking.HIDDEN} {masking.HIDDEN}"


# What an app answers with, given what it was sent: status and body.
ANSWERS = {
    "takes it": lambda said: (200, {"code": 0, "data": {"document_no": said, "status": said}}),
    "refuses the data": lambda said: (422, {"code": "X", "message": said, "errors": [said]}),
    "refuses the key": lambda said: (401, {"code": 40100, "message": said, "error": said}),
    "breaks down": lambda said: (500, {"message": said, "error": {"detail": said}}),
    "has too much to do": lambda said: (429, {"message": said}),
    "answers nonsense": lambda said: (200, {"code": said, "data": said}),
    "answers a text": lambda said: (400, said),
}


def spellings() -> set[str]:
    raw = KEY
    found = {make(raw) for make in SPELLINGS.values()} | {json.dumps(raw)[1:-1]}
    return found | {json.dumps(one)[1:-1] for one in found}


def quoting(answer):
    """Answer with every header that came, in all its spellings."""

    def decide(_path, headers, _body):
        given = headers.get("authorization", "").removeprefix("Bearer ")
        said = " | ".join(make(given) for make in SPELLINGS.values())
        status, body = answer(said)
        return status, body, {"x-quoted": quote(said)}

    return decide


def everything_kept() -> str:
    with reading(EVERY) as session:
        lines = []
        for table in SQLModel.metadata.sorted_tables:
            for found in session.execute(text(f'SELECT * FROM "{table.name}"')):
                lines += [
                    one.decode(errors="replace") if isinstance(one, bytes) else str(one)
                    for one in found
                ]
        return "\n".join(lines)


def order_quoted(target, answer):
    """Let one order go to an app that quotes what it is sent; try the connection too."""
    with transaction(EVERY) as session:
        shop = Shop(session, target.url)
        organization = session.get(Organization, shop.organization_id)
        shop.owner, shop.api = (
            make_member(session, organization),
            make_api_key(session, organization),
        )
        for one in (shop.erp, shop.chat):
            connections.change_credentials(session, organization.id, one, fields={"key": KEY})
        shop.order(session)
    target.calls.clear()
    target.answer = quoting(answer)
    settle()
    connection_checks.test(shop.organization_id, shop.erp)
    assert KEY in target.calls[0][2]["authorization"]
    (shop.run,) = (one.id for one in runs() if one.organization_id == shop.organization_id)
    return shop


def what_is_shown(app, shop):
    """Every page and answer of the API that speaks of the run or of the connection."""
    browser, key = app.test_client(), {"Authorization": f"Bearer {shop.api}"}
    sign_in(browser, None, shop.owner)
    for path in (
        f"/runs/{shop.run}", "/runs", "/", f"/connections/{shop.erp}", "/connections", "/audit",
        f"/flows/{shop.flow}", f"/flows/{shop.flow}/try", "/metrics",
    ):  # fmt: skip
        yield path, browser.get(path, headers={"Accept": "text/html"}).get_data(as_text=True)
    for path in (f"/runs/{shop.run}", f"/connections/{shop.erp}", "/audit"):
        yield (
            f"API {path}",
            app.test_client().get(f"/api/v1{path}", headers=key).get_data(as_text=True),
        )


def test_an_app_that_quotes_the_key_brings_it_nowhere(app, caplog):
    caplog.set_level(logging.DEBUG)
    with vendor() as target:
        shops = {kind: order_quoted(target, answer) for kind, answer in ANSWERS.items()}
    texts = [("the tables", everything_kept()), ("the log", caplog.text)]
    hidden = set()
    for kind, shop in shops.items():
        for path, shown in what_is_shown(app, shop):
            texts.append((f"{kind}: {path}", shown))
            if masking.HIDDEN in shown:
                hidden.add(kind)
    leaks = {place: one for place, said in texts for one in spellings() if one in said}
    assert leaks == {}
    # otherwise nothing that was quoted was kept, and nothing was tried; nonsense is not kept at all
    assert hidden == set(ANSWERS) - {"answers nonsense"}
