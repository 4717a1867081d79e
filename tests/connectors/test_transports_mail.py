"""Mail over SMTP and IMAP against real servers: aiosmtpd and, where it is installed, Dovecot."""

import base64
import shutil
import socket
import ssl
import tempfile
import threading
import time
from dataclasses import replace
from email.header import Header
from email.message import EmailMessage
from pathlib import Path

import pytest
import trustme
from factories.mail_servers import DOVECOT, NAME, PASSWORD, imap_server, scripted, smtp_server

from connectors.engine import answers, listings, loader, reconcile, requests
from connectors.engine.connector import ConnectionValues
from connectors.transports import composing, letters, sending, wires
from kernel import addresses, http
from kernel.http import Failure, Response
from kernel.settings import settings_override

MAIL = {"to": "张三 <zhang@example.com>", "subject": "您的订单已发货", "text": "您好，\n.已发货"}
KEY = "eff_0123456789abcdef"


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(autouse=True)
def trusted(authority, monkeypatch):
    def context():
        made = ssl.create_default_context()
        authority.configure_trust(made)
        return made

    monkeypatch.setattr(wires, "CONTEXT", context)


def values(smtp="smtps://127.0.0.1:1", imap="imaps://127.0.0.1:1", password=PASSWORD):
    return ConnectionValues(
        settings={"smtp": smtp, "imap": imap, "sender": "云帆商贸 <sales@example.com>"},
        auth="password",
        fields={"username": NAME, "password": password},
    )


def send(way, given=MAIL, seconds=None):
    connector = loader.find("smtp-mail")
    request = requests.build(connector, "send_mail", given, way, KEY)
    if seconds:
        request = replace(request, timeout_seconds=seconds)
    outcome = sending.send(request)
    return answers.read(connector, "send_mail", outcome), outcome


def allowed(*ports):
    return settings_override(outbound_allow=tuple(f"127.0.0.1:{port}" for port in ports))


# --- sending ---


@pytest.mark.parametrize("way", ["smtps", "smtp"])
def test_a_mail_arrives_as_it_was_written(authority, way):
    with smtp_server(authority, way) as (mailman, port), allowed(port):
        answer, _ = send(
            values(f"{way}://127.0.0.1:{port}"),
            {
                **MAIL,
                "cc": "b@example.com；c@example.com",
                "bcc": "d@example.com",
                "html": "<p>您好</p>",
                "attachments": [
                    {"name": "对账单.csv", "content_base64": base64.b64encode(b"a,b\n").decode()}
                ],
            },
        )
    assert answer.kind == "ok"
    assert answer.output == {"message_id": f"<{KEY}@example.com>"}
    sender, recipients, _ = mailman.mails[0]
    assert sender == "sales@example.com"
    assert recipients == ["zhang@example.com", "b@example.com", "c@example.com", "d@example.com"]
    message = mailman.message()
    assert message["message-id"] == f"<{KEY}@example.com>"
    assert message["subject"] == "您的订单已发货"
    assert message["from"].addresses[0].display_name == "云帆商贸"
    assert "d@example.com" not in str(message)
    assert message.get_body(("plain",)).get_content().split() == ["您好，", ".已发货"]
    assert message.get_body(("html",)).get_content().strip() == "<p>您好</p>"
    attached = next(iter(message.iter_attachments()))
    assert attached.get_filename() == "对账单.csv"
    assert attached.get_content() == "a,b\n"
    assert mailman.sign_ins[0][:2] == (NAME, PASSWORD)


def test_a_server_without_encryption_never_sees_the_password(authority):
    with smtp_server(authority, "plain") as (mailman, port), allowed(port):
        answer, outcome = send(values(f"smtp://127.0.0.1:{port}"))
    assert (outcome.kind, answer.kind) == ("tls", "retry")
    assert "no encryption" in outcome.detail
    assert mailman.sign_ins == []
    assert mailman.mails == []


def test_a_certificate_of_nobody_we_know_ends_it():
    with smtp_server(trustme.CA()) as (mailman, port), allowed(port):
        answer, outcome = send(values(f"smtps://127.0.0.1:{port}"))
    assert (outcome.kind, answer.kind) == ("tls", "retry")
    assert mailman.sign_ins == []


def test_what_was_said_before_the_encryption_is_not_believed(authority):
    """A stranger on the wire may not slip replies in before STARTTLS (CVE-2011-0411 and kin)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    listener = socket.create_server(("127.0.0.1", 0))
    port, heard = listener.getsockname()[1], []

    def serve():
        raw, _ = listener.accept()
        raw.sendall(b"220 hi\r\n")
        raw.recv(1000)
        raw.sendall(b"250-mail\r\n250 STARTTLS\r\n")
        raw.recv(1000)
        # the injected reply comes in the same segment as the permission to encrypt
        raw.sendall(b"220 go\r\n250-forged\r\n250 AUTH PLAIN\r\n")
        try:
            with context.wrap_socket(raw, server_side=True) as talk:
                heard.append(talk.recv(1000))
                talk.sendall(b"250-mail\r\n250 SIZE 1000000\r\n")
                heard.append(talk.recv(1000))
        except OSError:
            pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with allowed(port):
        answer, outcome = send(values(f"smtp://127.0.0.1:{port}"))
    thread.join(5)
    listener.close()
    assert all(b"AUTH PLAIN" not in one for one in heard)
    assert answer.kind != "ok"
    assert isinstance(outcome, Failure | Response)


def test_a_wrong_password_is_a_matter_of_credentials(authority):
    with smtp_server(authority) as (mailman, port), allowed(port):
        answer, _ = send(values(f"smtps://127.0.0.1:{port}", password="wrong"))
        check = sending.send(
            requests.build_lifecycle(
                loader.find("smtp-mail"), "test",
                values(f"smtps://127.0.0.1:{port}", password="wrong"), {},
            )
        )  # fmt: skip
        good = sending.send(
            requests.build_lifecycle(
                loader.find("smtp-mail"), "test", values(f"smtps://127.0.0.1:{port}"), {}
            )
        )
    assert (answer.kind, answer.cause) == ("fail", "auth")
    assert "授权码" in answer.say["zh"]
    assert (check.status, good.status) == (401, 200)
    assert mailman.mails == []


@pytest.mark.parametrize(
    ("reply", "kind", "cause"),
    [
        ("450 4.2.0 try later", "retry", "down"),
        ("450 4.7.1 too many messages", "retry", "limit"),
        ("550 5.1.1 no such user", "fail", "data"),
    ],
)
def test_one_refused_recipient_and_nothing_is_sent(authority, reply, kind, cause):
    with smtp_server(authority) as (mailman, port), allowed(port):
        mailman.refuse["b@example.com"] = reply
        answer, outcome = send(
            values(f"smtps://127.0.0.1:{port}"), {**MAIL, "to": "a@example.com, b@example.com"}
        )
    assert (answer.kind, answer.cause) == (kind, cause)
    assert reply in answer.detail
    assert b"b@example.com" in outcome.body
    assert mailman.mails == []


def test_a_refusal_of_the_content_is_told_in_the_server_s_words(authority):
    with smtp_server(authority) as (mailman, port), allowed(port):
        mailman.data_reply = "554 5.7.1 DT:SPM looks like spam"
        answer, _ = send(values(f"smtps://127.0.0.1:{port}"))
        mailman.data_reply = "552 5.3.4 too big"
        larger, outcome = send(values(f"smtps://127.0.0.1:{port}"))
    assert (answer.kind, answer.cause) == ("fail", "data")
    assert "DT:SPM" in answer.detail
    assert (larger.cause, outcome.status) == ("data", 413)


def test_without_the_last_answer_nobody_knows_and_nothing_is_repeated(authority):
    with smtp_server(authority) as (mailman, port), allowed(port):
        mailman.hang_after_data = True
        answer, outcome = send(values(f"smtps://127.0.0.1:{port}"))
    assert len(mailman.mails) == 1
    assert (answer.kind, answer.cause, outcome.kind) == ("fail", "unknown", "timeout")


def test_a_server_that_never_gets_to_the_point_is_cut_off():
    """It says a byte now and then, so that no single wait is ever too long."""
    with scripted(drip=0.1) as (port, _), allowed(port):
        began = time.monotonic()
        answer, outcome = send(values(f"smtp://127.0.0.1:{port}"), seconds=1)
    assert time.monotonic() - began < 3
    assert (answer.kind, outcome.kind) == ("retry", "connect")  # nothing was handed over


def test_a_reply_without_an_end_is_not_read_for_ever():
    with scripted(b"220-x\r\n" * 20_000) as (port, _), allowed(port):
        _, outcome = send(values(f"smtp://127.0.0.1:{port}"))
    assert outcome.kind == "too_large"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"to": "nobody"}, "no mail address"),
        ({"to": "a@example.com\r\nBcc: x@example.com <y"}, ""),
        ({"to": ", ".join(f"a{n}@example.com" for n in range(101))}, "100 addresses"),
        ({"attachments": [{"name": "a", "content_base64": "???"}]}, "base64"),
        ({"attachments": [{"name": "a", "url": "http://127.0.0.1/x"}]}, "private or reserved"),
    ],
)
def test_a_mail_that_cannot_be_written_reaches_no_server(more, words):
    answer, outcome = send(values("smtps://127.0.0.1:1"), {**MAIL, **more})
    assert (answer.kind, answer.cause, outcome.status) == ("fail", "data", 422)
    assert words in answer.detail


def test_no_value_begins_a_header_of_its_own(authority):
    with smtp_server(authority) as (mailman, port), allowed(port):
        answer, _ = send(
            values(f"smtps://127.0.0.1:{port}"),
            {**MAIL, "subject": "Hi\r\nBcc: evil@example.com\r\n\r\nBody", "in_reply_to": "a\nb"},
        )
    assert answer.kind == "ok"
    message = mailman.message()
    assert message["bcc"] is None
    assert message["subject"] == "Hi Bcc: evil@example.com Body"
    assert mailman.mails[0][1] == ["zhang@example.com"]


# --- where calls go ---


@pytest.mark.parametrize(
    "address",
    [
        "smtps://127.0.0.1:465", "smtps://10.0.0.1", "smtp://169.254.169.254:587",
        "smtps://2130706433:465", "smtps://localhost.example:25",
    ],
)  # fmt: skip
def test_private_addresses_and_other_ports_are_refused(address, monkeypatch):
    monkeypatch.setattr(addresses, "RESOLVER", lambda _host: ["10.1.2.3"])
    answer, outcome = send(values(address))
    assert outcome.kind == "refused_address"
    assert (answer.kind, answer.cause) == ("fail", "config")


def test_a_name_that_leads_elsewhere_a_moment_later_changes_nothing(monkeypatch):
    """The socket connects to the number that was vetted; the name is not looked up again."""
    asked, reached = [], []

    def resolver(host):
        asked.append(host)
        return ["93.184.216.34"] if len(asked) == 1 else ["127.0.0.1"]

    class Sock(socket.socket):
        def connect(self, place):
            reached.append(place)
            raise ConnectionRefusedError

    monkeypatch.setattr(addresses, "RESOLVER", resolver)
    monkeypatch.setattr(addresses.socket, "socket", Sock)
    _, outcome = send(values("smtps://rebind-one.example:465"))
    assert outcome.kind == "connect"
    assert reached == [("93.184.216.34", 465)]
    assert asked == ["rebind-one.example"]


def test_the_address_really_connected_to_is_vetted_again(monkeypatch):
    class Sock(socket.socket):
        def connect(self, place):
            pass

        def getpeername(self):
            return ("127.0.0.1", 465)

    monkeypatch.setattr(addresses, "RESOLVER", lambda _host: ["93.184.216.34"])
    monkeypatch.setattr(addresses.socket, "socket", Sock)
    _, outcome = send(values("smtps://rebind-two.example:465"))
    assert outcome.kind == "refused_address"


def test_a_mixed_answer_of_the_name_is_an_attack(monkeypatch):
    monkeypatch.setattr(addresses, "RESOLVER", lambda _host: ["93.184.216.34", "127.0.0.1"])
    _, outcome = send(values("smtps://mixed.example:465"))
    assert outcome.kind == "refused_address"


def test_a_web_connector_cannot_be_pointed_at_a_mail_server():
    connector = loader.find("ntfy")
    way = ConnectionValues(settings={"base_url": "smtp://mail.example:587"}, auth="open")
    given = {"topic": "t", "message": "m"}
    with pytest.raises(requests.CannotBuild):
        requests.build(connector, "publish", given, way, KEY)


def test_requests_of_http_and_others_go_out_together(authority, monkeypatch):
    told = []
    answer = Response(200, {}, b"{}", truncated=False, elapsed_ms=1)

    def plain(listed, limit=16, tell=None):
        for place, _ in enumerate(listed):
            tell(place, answer)
        return [answer for _ in listed]

    monkeypatch.setattr(http, "send_all", plain)
    with smtp_server(authority) as (_, port), allowed(port):
        mail = requests.build(
            loader.find("smtp-mail"), "send_mail", MAIL, values(f"smtps://127.0.0.1:{port}"), KEY
        )
        web = http.Request("GET", "https://app.example/")
        got = sending.send_all([web, mail, web], tell=lambda place, one: told.append((place, one)))
    assert [one.status for one in got] == [200, 200, 200]
    assert sorted(place for place, _ in told) == [0, 1, 2]


# --- reading ---

needs_dovecot = pytest.mark.skipif(not Path(DOVECOT).exists(), reason="Dovecot is not installed")


@pytest.fixture(scope="module")
def mailbox(authority):
    folder = Path(tempfile.mkdtemp(prefix="yangfan-dovecot-", dir="/tmp"))
    try:
        with imap_server(authority, folder) as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def look(way, since="2026-01-01T00:00:00Z", token=None, page=None, **given):
    connector = loader.find("smtp-mail")
    plan = connector.triggers["mail_received"].reconcile
    asked = {"since": since, "until": None, "page": page, "token": token}
    request = requests.build_list(connector, plan, way, given, asked)
    return listings.read_list(connector, plan, asked, sending.send(request))


def written(number, subject="Bestellung", text="你好", **more):
    message = EmailMessage()
    message["From"], message["To"] = "张三 <zhang@example.com>", "sales@example.com"
    message["Subject"], message["Message-ID"] = subject, f"<m{number}@example.com>"
    message["Date"] = "Sat, 28 Nov 2026 09:00:00 +0800"
    for name, value in more.items():
        message[name.replace("_", "-")] = value
    message.set_content(text)
    return message


@needs_dovecot
def test_mail_comes_in_once_and_in_order_and_stays_unread(mailbox):
    way = values(imap=f"imaps://127.0.0.1:{mailbox.port}")
    with allowed(mailbox.port):
        first = look(way)
        assert (first.kind, first.output["items"]) == ("ok", [])
        for number in range(1, 26):
            mailbox.put(written(number).as_bytes())
        page = look(way, token=first.output["token"])
        assert [one["message_id"] for one in page.output["items"]] == [
            f"m{n}@example.com" for n in range(1, 21)
        ]
        rest = look(way, token=first.output["token"], page=page.output["next"])
        assert [one["message_id"] for one in rest.output["items"]] == [
            f"m{n}@example.com" for n in range(21, 26)
        ]
        assert rest.output.get("next") is None
        again = look(way, token=rest.output["token"])
        assert (again.output["items"], again.output["token"]) == ([], rest.output["token"])
        # a token of a mailbox that was made anew means nothing: it is read from the moment on
        anew = look(way, since="2026-01-01T00:00:00Z", token="1:9999")
        assert len(anew.output["items"]) == 20
        # "from now on" leaves out what came earlier on the same day
        assert look(way, since="2099-01-01T00:00:00Z").output["items"] == []
    seen = []
    mailbox.command(lambda client: seen.append(client.uid("SEARCH", "SEEN")[1][0]))
    assert seen == [b""]


@needs_dovecot
def test_attachments_are_named_and_fetched_by_reference(mailbox):
    way = values(imap=f"imap://127.0.0.1:{mailbox.plain}")  # STARTTLS
    message = written(900, "带附件")
    message.add_attachment(b"a,b\n", maintype="text", subtype="csv", filename="订单 7.csv")
    with allowed(mailbox.plain):
        token = _newest(way)
        mailbox.put(message.as_bytes())
        item = look(way, token=token).output["items"][0]
        part = item["attachments"][0]
        assert (part["name"], part["type"], part["size"]) == ("订单 7.csv", "text/csv", 4)
        connector = loader.find("smtp-mail")
        request = requests.build(
            connector, "get_attachment", {"reference": part["reference"]}, way, KEY
        )
        answer = answers.read(connector, "get_attachment", sending.send(request))
        assert base64.b64decode(answer.output["content_base64"]) == b"a,b\n"
        gone = requests.build(connector, "get_attachment", {"reference": "1:1:1"}, way, KEY)
        assert sending.send(gone).status == 404


def _newest(way):
    page = look(way)
    while page.output.get("next"):
        page = look(way, page=page.output["next"])
    return page.output["token"]


@needs_dovecot
def test_other_folders_and_wrong_passwords(mailbox):
    mailbox.put(written(950).as_bytes(), mailbox="&i6JTVQ-")  # 订单
    with allowed(mailbox.port):
        way = values(imap=f"imaps://127.0.0.1:{mailbox.port}")
        assert len(look(way, mailbox="订单").output["items"]) == 1
        missing = look(way, mailbox="没有")
        assert (missing.kind, missing.cause) == ("fail", "config")
        wrong = look(values(imap=f"imaps://127.0.0.1:{mailbox.port}", password="no"))
        assert (wrong.kind, wrong.cause) == ("fail", "auth")


def test_a_mailbox_without_encryption_never_sees_the_password():
    with scripted(b"* OK hi\r\n", b"* CAPABILITY IMAP4rev1\r\nA0 OK\r\n") as (port, heard):
        with allowed(port):
            answer = look(values(imap=f"imap://127.0.0.1:{port}"), since="2026-01-01T00:00:00Z")
    assert answer.kind in ("retry", "fail")
    assert PASSWORD.encode() not in b"".join(heard)


def test_a_mailbox_that_announces_too_much_is_left(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    greeting = b"* PREAUTH hi\r\n"
    with scripted(greeting, b"* 1 FETCH {99999999999}\r\n", context=context) as (port, _):
        with allowed(port):
            answer = look(values(imap=f"imaps://127.0.0.1:{port}"))
    assert (answer.kind, answer.cause) == ("fail", "config")
    assert "too_large" in answer.detail


# --- what mail looks like ---


def gbk_mail():
    head = b"From: " + "王五".encode("gbk") + b" <wang@example.com>\r\n"
    head += b"Subject: " + "报价单".encode("gbk") + b"\r\nMessage-ID: <g@x>\r\n"
    head += b"Content-Type: text/plain; charset=gb2312\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    return head + "镕基、喆 €：您好".encode("gb18030")


@pytest.mark.parametrize(
    ("subject", "wanted"),
    [
        (Header("采购订单", "gb2312").encode(), "采购订单"),
        (Header("采购订单", "utf-8").encode(), "采购订单"),
        ("=?GB2312?B?" + base64.b64encode("喆".encode("gbk")).decode() + "?=", "喆"),
        ("=?x-nonsense?B?5Lit5paH?=", "中文"),
        ("plain =?utf-8?Q?=E4=B8=AD?= =?utf-8?Q?=E6=96=87?= end", "plain 中文 end"),
    ],
)
def test_subjects_are_read_however_they_are_written(subject, wanted):
    assert letters.header(subject) == wanted


def test_a_mail_in_bare_gbk_is_read():
    told = letters.read(gbk_mail(), 1000)
    assert told["subject"] == "报价单"
    assert told["from"] == {"name": "王五", "address": "wang@example.com"}
    assert told["text"] == "镕基、喆 €：您好"
    assert told["message_id"] == "g@x"


def test_texts_are_bounded_and_pages_become_text():
    page = "<html><head><style>p{}</style></head><body><p>一</p><script>x</script>二<br>三</body>"
    message = EmailMessage()
    message.set_content(page, subtype="html")
    told = letters.read(message.as_bytes(), 4)
    assert told["text"] == "一\n二\n"
    assert told["is_cut"]
    assert letters.read(message.as_bytes(), 1000)["text"] == "一\n二\n三"
    # without an id of its own the content tells it apart, the same every time
    assert told["message_id"].startswith("sha256-")
    assert told["message_id"] == letters.read(message.as_bytes(), 9)["message_id"]


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"\x00\xff\xfe", b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n" * 50,
        b"Content-Type: text/plain; charset=\"\xff\"\r\nDate: 99\r\n\r\nx",
        b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!",
        b"Subject: =?utf-8?B?////?=\r\nFrom: <<>>,,\r\n\r\n",
    ],
)  # fmt: skip
def test_broken_mail_is_read_all_the_same(raw):
    told = letters.read(raw, 100)
    assert set(told) >= {"message_id", "subject", "text", "attachments"}


def test_dots_at_the_start_of_lines_are_doubled():
    assert composing.on_the_wire(b".a\nb\r\n..c\r\n") == b"..a\r\nb\r\n...c\r\n.\r\n"


def test_mailbox_names_are_written_as_imap_has_them():
    assert letters.utf7("订单&x") == "&i6JTVQ-&-x"


def test_items_of_a_look_become_events():
    connector = loader.find("smtp-mail")
    trigger = connector.triggers["mail_received"]
    told = letters.read(written(1).as_bytes(), 1000)
    made = reconcile.rebuilt(trigger.reconcile, {**told, "uid": 1})
    assert made.headers["webhook-id"] == "m1@example.com"
