"""Matching: which column of a sheet is which field, by what people call things."""

import re
from collections.abc import Mapping, Sequence

from connectors.sheets.fields import SheetField

_SURE = 2  # a name of so much weight or less is the field's own
_NOISE = re.compile(r"[\s_\-:：（）()\[\]【】*·.,，/\\]+")
# Words for the last part of a path, beside its own title and name.
SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "order_no": ("订单编号", "订单号", "单号", "平台订单号", "order id", "order number"),
    "no": ("编号", "编码", "单号", "客户编码", "客户编号", "供应商编码", "number", "code", "id"),
    "name": ("名称", "客户名称", "商品名称", "品名", "货品名称", "物料名称", "姓名"),
    "sku": ("物料编码", "商品编码", "货号", "商家编码", "规格编码", "料号", "sku", "item code"),
    "gtin": ("条码", "商品条码", "条形码", "barcode", "ean", "upc"),
    "spec": ("规格", "规格型号", "型号", "specification"),
    "phone": ("手机", "手机号", "电话", "联系电话", "收货人手机", "mobile", "tel", "telephone"),
    "email": ("邮箱", "电子邮箱", "邮件地址", "e-mail", "mail"),
    "tax_id": ("税号", "纳税人识别号", "统一社会信用代码", "信用代码", "tax number", "vat"),
    "value": ("数量", "金额", "单价", "qty", "quantity", "amount", "price"),
    "currency": ("币种", "币别", "结算币种"),
    "unit_code": ("单位", "计量单位", "unit", "uom"),
    "code": ("仓库编码", "仓库", "仓库名称", "门店编码", "warehouse"),
    "lot": ("批号", "批次", "批次号", "batch", "batch no", "lot no"),
    "channel": ("渠道", "店铺", "店铺名称", "来源平台", "shop", "store"),
    "company": ("公司", "账套", "组织", "公司代码"),
    "line_id": ("行号", "子订单编号", "明细行号", "line", "line no"),
    "count_no": ("盘点单号", "盘点单"),
    "street": ("详细地址", "地址", "收货地址", "address"),
    "city": ("城市", "市"),
    "region": ("省", "省份", "province", "state"),
    "district": ("区", "区县", "县"),
    "postal_code": ("邮编", "邮政编码", "zip", "postcode"),
    "placed_at": ("下单时间", "订单创建时间", "拍下时间", "order date", "ordered at"),
    "paid_at": ("付款时间", "支付时间", "订单付款时间", "payment date"),
    "created_at": ("创建时间", "建档时间", "创建日期", "created"),
    "counted_at": ("盘点时间", "盘点日期"),
    "counted": ("实盘数", "实盘数量", "盘点数量"),
    "book": ("账面数", "账面数量", "系统数量"),
    "quantity": ("数量", "购买数量", "qty"),
    "unit_price": ("单价", "商品单价", "含税单价", "price"),
    "total": ("总金额", "合计", "订单金额", "应付金额", "实付金额", "amount"),
}


def plain(text: str) -> str:
    """Return a name without what people write differently: spaces, signs, capital letters."""
    return _NOISE.sub("", text).lower()


def names_of(field: SheetField) -> list[tuple[str, int]]:
    """Return what a field may be called, plainly, and how much that says (the less, the surer)."""
    last = field.titles[-1] if field.titles else {}
    found = [(plain(field.name), 0)]
    found += [(plain(text), 1) for text in field.title.values()]
    named = [part for part in field.path if part != "[]"]
    if named[-1] == "value" and len(named) > 1:
        # the value of a quantity or of money is called by what it is the value of
        above = field.titles[-2]
        found += [(plain(text), 1) for text in above.values()]
        found += [(plain(text), 2) for text in (named[-2], *SYNONYMS.get(named[-2], ()))]
    else:
        found += [(plain(text), 2) for text in last.values()]
        found += [(plain(text), 3) for text in (named[-1], *SYNONYMS.get(named[-1], ()))]
    if len(named) > 1:
        parent = [_said(one) for one in field.titles[-2:]]
        found += [(plain("".join(both)), 1) for both in zip(*parent, strict=False)]
    depth = len(named) - 1
    return [(name, weight + depth) for name, weight in found if name]


def _said(title: Mapping[str, str]) -> tuple[str, str]:
    return title.get("zh", ""), title.get("en", "")


def match(header: Sequence[str], fields: Sequence[SheetField]) -> dict[str, int]:
    """Return which column fills which field; a column fills one field, the one it names best."""
    wishes: list[tuple[int, bool, int, int, str]] = []
    columns: dict[str, list[int]] = {}
    for place, text in enumerate(header):
        columns.setdefault(plain(text), []).append(place)
    for rank, field in enumerate(fields):
        for name, weight in names_of(field):
            wishes += [
                (weight, not field.is_required, rank, place, field.name)
                for place in columns.get(name, ())
            ]
    chosen: dict[str, int] = {}
    _choose(sorted(one for one in wishes if one[0] <= _SURE), chosen)
    # a word that few things are called by comes first; one that many are called by belongs to what
    # the sheet speaks of by then
    rest = [one for one in wishes if one[3] not in chosen.values()]
    meant: dict[int, set[str]] = {}
    for *_, place, name in rest:
        meant.setdefault(place, set()).add(name)
    for place in sorted(meant, key=lambda one: (len(meant[one]), one)):
        near = {above for name in chosen for above in _above(name)}
        own = [one for one in rest if one[3] == place]
        _choose(sorted(own, key=lambda one: (one[4].rpartition(".")[0] not in near, one)), chosen)
    return chosen


def _above(name: str) -> list[str]:
    """Return what a field is part of: lines[].item, lines[], and the event itself."""
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(len(parts))]


def _choose(wishes: Sequence[tuple[int, bool, int, int, str]], chosen: dict[str, int]) -> None:
    taken = set(chosen.values())
    for *_, place, name in wishes:
        if place not in taken and name not in chosen:
            taken.add(place)
            chosen[name] = place
