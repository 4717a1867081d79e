"""Run by Tryton's interpreter with (configuration, database): a firm, a product, a key."""

import json
import sys
from decimal import Decimal

from trytond import config

config.update_etc(sys.argv[1])

from trytond.pool import Pool  # noqa: E402 - reads the configuration when it is imported
from trytond.transaction import Transaction  # noqa: E402 - the same


def _set_up(database: str) -> dict[str, object]:
    pool = Pool(database)
    with Transaction().start(database, 0, readonly=True):
        pool.init()
    get = pool.get
    with Transaction().start(database, 1) as work:
        currency = get("currency.currency")(name="人民币", code="CNY", symbol="¥")
        currency.save()
        party = get("party.party")(name="扬帆示例工厂")
        party.save()
        company = get("company.company")(party=party, currency=currency)
        company.save()
        user = get("res.user")(1)
        user.companies, user.company = [company], company
        user.save()
        work.commit()
    with Transaction().start(
        database, 1, context={"company": company.id}, _lock_tables=["sale_configuration"]
    ) as work:
        (unit,) = get("product.uom").search([("name", "=", "Unit")])
        template = get("product.template")(
            name="展会门票",
            code="TICKET",
            default_uom=unit,
            sale_uom=unit,
            type="service",
            salable=True,
            list_price=Decimal("88.00"),
        )
        template.save()
        get("product.product")(template=template).save()
        rules = get("sale.configuration")(1)
        rules.sale_invoice_method = rules.sale_shipment_method = "manual"
        rules.save()
        applications = get("res.user.application")
        application = applications(user=1, application="rest")
        application.save()
        applications.validate_([application])
        key = applications(application.id).key
        work.commit()
    return {"key": key, "company": company.id}


print(json.dumps(_set_up(sys.argv[2])))
