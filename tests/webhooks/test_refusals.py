"""Refusals: the owner sees what was refused and why; a flood costs next to nothing."""

import json

import pytest
from factories import identity
from factories import webhooks as make

from kernel import clock
from kernel.database import EVERY, StoreUnavailable, reading
from kernel.errors import Malformed
from webhooks import advice, intake, ledger, quotas, refusals, sources, usage
from webhooks.errors import BadSignature
from webhooks.pages.refused import of_source
from webhooks.tables import Refusals, Usage


@pytest.fixture(autouse=True)
def _fresh_memory():
    for one in (quotas, refusals, intake):
        one.forget()
    usage.take()
    yield
    refusals.forget()


@pytest.fixture
def seat(client):
    return make.seat_of_integrator(client)


@pytest.fixture
def source(seat):
    return make.in_transaction(lambda s: make.make_source(s, seat))


def token_of(source):
    return sources.url_of(source).rsplit("/", 1)[1]


def send(client, source, raw=b'{"type":"shop.opened","data":{}}', **headers):
    signed = make.signed(source, raw)
    signed.update({k.replace("_", "-"): v for k, v in headers.items()})
    return client.post(f"/in/{token_of(source)}", data=raw, headers=signed)


def found(source):
    with reading(EVERY) as session:
        return of_source(session, source.organization_id, source.id)["refused"]


def test_a_wrong_signature_leaves_its_owner_a_trace(client, source):
    for _ in range(3):
        answer = send(client, source, webhook_signature="v1,AAAA", user_agent="curl/8")
        assert answer.status_code == 401
    assert make.rows(Refusals) == [], "a request writes nothing"
    ledger.turn()
    (one,) = found(source)
    assert (one["code"], one["count"]) == ("signature_mismatch", 3)
    note = one["notes"][0]
    assert note["headers"]["user-agent"] == "curl/8"
    assert note["sender"] == "127.0.0.1"
    assert "webhook-signature" not in note["headers"]
    (row,) = make.rows(Usage)
    assert (row.refused_proof, row.source_id) == (3, source.id)


def test_every_kind_of_refusal_is_counted_as_what_it_is(client, source):
    send(client, source, b"{")
    send(client, source, b"[" + b"1," * 1001 + b"1]")
    send(client, source, webhook_timestamp="1000000000")
    make.in_transaction(lambda s: sources.set_state(s, source.organization_id, source.id, "paused"))
    intake.forget()
    assert send(client, source).status_code == 409
    ledger.turn()
    assert {one["code"]: one["count"] for one in found(source)} == {
        "not_json": 1, "too_many_items": 1, "signature_stale": 1, "source_paused": 1,
    }  # fmt: skip
    (row,) = make.rows(Usage)
    kinds = (row.refused_form, row.refused_proof, row.refused_pause, row.refused_limit)
    assert kinds == (2, 1, 1, 0)


def test_what_is_taken_in_or_kept_for_repair_is_no_refusal(client, source):
    assert send(client, source).status_code == 202
    ledger.turn()
    assert make.rows(Refusals) == []


def test_strangers_at_unknown_addresses_cause_no_write(client, source, monkeypatch):
    written = []
    monkeypatch.setattr(ledger, "write", written.append)
    for number in range(50):
        assert client.post(f"/in/nobody-{number}", json={}).status_code == 404
    ledger.turn()
    assert written == []
    assert not refusals.take()


def test_a_flood_of_one_kind_hides_no_other_and_grows_nothing(client, source):
    send(client, source, b"{")
    for _ in range(120):
        send(client, source, webhook_signature="v1,AAAA")
    (notes,) = refusals.take().values()
    assert len(notes.latest) <= 2 * refusals.KEPT
    make.in_transaction(lambda s: refusals.store(s, {(source.organization_id, source.id): notes}))
    (row,) = make.rows(Refusals)
    assert len(row.latest) <= refusals.KEPT
    per_code = [one["code"] for one in row.latest]
    assert per_code.count("signature_mismatch") == refusals.KEPT_PER_CODE
    assert per_code.count("not_json") == 1
    assert row.counts["signature_mismatch"]["count"] == 120


def opened(source):
    from webhooks import addresses

    return addresses.opened(source)


def test_a_turn_writes_one_row_for_a_source_and_adds_to_it(database):
    source = make.in_transaction(lambda s: make.make_source(s, "org_a"))
    for turn in range(3):
        with clock.shifted(seconds=turn):
            for problem in (BadSignature(), Malformed(code="not_json")):
                refusals.note(opened(source), problem, {}, "10.0.0.1")
            ledger.turn()
    (row,) = make.rows(Refusals)
    assert {code: known["count"] for code, known in row.counts.items()} == {
        "signature_mismatch": 3, "not_json": 3,
    }  # fmt: skip
    known = row.counts["not_json"]
    assert known["first_at"] < known["last_at"]
    assert [one["at"] for one in row.latest] == sorted((o["at"] for o in row.latest), reverse=True)


def test_a_store_that_is_away_loses_no_note(database, monkeypatch):
    source = make.in_transaction(lambda s: make.make_source(s, "org_a"))
    refusals.note(opened(source), BadSignature(), {}, "")

    def away(_work):
        raise StoreUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "write", away)
        with pytest.raises(StoreUnavailable):
            ledger.turn()
    refusals.note(opened(source), BadSignature(), {}, "")
    ledger.turn()
    (row,) = make.rows(Refusals)
    assert row.counts["signature_mismatch"]["count"] == 2
    assert len(row.latest) == 2


def test_what_the_sender_wrote_is_cut_and_its_secret_never_kept(database):
    source = make.in_transaction(lambda s: make.make_source(s, "org_a"))
    secret = sources.secret_of(source)
    headers = {
        "user-agent": f"app {secret} {secret.removeprefix('whsec_')}",
        "content-type": "字" * 400,
        "authorization": "Bearer mine",
        "webhook-id": "a\x00b",
    }
    refusals.note(opened(source), BadSignature(detail="x %(header)s", header=secret), headers, "")
    ledger.turn()
    (row,) = make.rows(Refusals)
    (one,) = row.latest
    said = json.dumps(one, ensure_ascii=False)
    assert secret not in said
    assert secret.removeprefix("whsec_") not in said
    assert "authorization" not in one["headers"]
    assert len(one["headers"]["content-type"].encode()) <= refusals.HEADER_BYTES
    assert one["headers"]["webhook-id"] == "ab"


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_sources_page_shows_it_with_advice(client, source, language):
    mark = "<script>alert(1)</script>"
    send(client, source, webhook_signature="v1,AAAA", user_agent=mark)
    ledger.turn()
    page = client.get(f"/sources/{source.id}?lang={language}").get_data(as_text=True)
    assert ("The secret does not match" if language == "en" else "密钥不一致") in page
    assert mark not in page
    shown = client.get(f"/api/v1/sources/{source.id}/refusals").json
    assert shown["counts"][0]["code"] == "signature_mismatch"
    assert shown["latest"][0]["headers"]["user-agent"] == mark


def test_the_owner_clears_the_list(client, source):
    send(client, source, b"{")
    ledger.turn()
    form = {"csrf_token": identity.csrf_of(client, "/sources")}
    answer = client.post(f"/sources/{source.id}/refusals/clear", data=form)
    assert answer.status_code == 303
    assert make.rows(Refusals) == []
    assert "signature" not in client.get(f"/api/v1/sources/{source.id}/refusals").text


def test_a_strangers_source_tells_nothing(client, seat):
    theirs = make.in_transaction(lambda s: make.make_source(s, "org_other"))
    refusals.note(opened(theirs), BadSignature(), {}, "")
    ledger.turn()
    for path in ("refusals", "quota"):
        assert client.get(f"/api/v1/sources/{theirs.id}/{path}").status_code == 404


def test_every_code_that_has_advice_has_its_own_words():
    assert advice.on("signature_mismatch") != advice.on("signature_stale")
    assert advice.on("a_code_of_tomorrow")
