"""Names that the hub gave stand in the reader's language; those people typed stay as they are."""

from factories.connectors import make_connection, open_shop, vendor
from factories.identity import make_member, sign_in

from connectors import connections, flows
from connectors.tables import Flow
from identity.tables import Organization
from kernel.database import EVERY, reading, transaction


def made(template="order-to-erp-to-chat"):
    with vendor() as target:
        shop = open_shop(target.url)
    with transaction(EVERY) as session:
        member = make_member(session, session.get(Organization, shop.organization_id))
        chosen = {"demo-erp": shop.erp, "demo-chat": shop.chat}
        flow = flows.create_from_template(session, shop.organization_id, template, chosen)
        named = make_connection(session, shop.organization_id, name=None)
        return shop, member, flow.id, named.id


def test_each_reads_the_name_in_their_own_language(database, client):
    shop, member, flow_id, connection_id = made()
    sign_in(client, None, member)
    zh = client.get(f"/flows/{flow_id}?lang=zh", headers={"Accept": "text/html"}).text
    en = client.get(f"/flows/{flow_id}?lang=en", headers={"Accept": "text/html"}).text
    with reading(EVERY) as session:
        flow = flows.find(session, shop.organization_id, flow_id)
        chinese = flow.name
    assert any("\u4e00" <= letter <= "\u9fff" for letter in chinese)
    assert f"{chinese}</h1>" in zh.replace("\n", "")
    assert chinese not in en
    assert '{"zh"' not in zh + en
    listed = client.get("/api/v1/connections", headers={"Accept-Language": "en"}).json["items"]
    (one,) = [row for row in listed if row["id"] == connection_id]
    assert not any("\u4e00" <= letter <= "\u9fff" for letter in one["name"])


def test_what_people_typed_stays(database):
    shop, _, flow_id, connection_id = made()
    with transaction(EVERY) as session:
        connections.rename(session, shop.organization_id, connection_id, '{"zh": oops')
        flow = session.get(Flow, (shop.organization_id, flow_id))
        flow.name = "我的流程"
        session.add(flow)
    with reading(EVERY) as session:
        assert flows.find(session, shop.organization_id, flow_id).name == "我的流程"
        found = connections.find(session, shop.organization_id, connection_id)
        assert found.name == '{"zh": oops'
