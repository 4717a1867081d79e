"""Each rule, broken once on purpose in a copy of a good folder."""

import json
import shutil

import pytest

from connectors.engine import check, contract, loader
from connectors.lab import validate


@pytest.fixture
def folder(tmp_path):
    copy = tmp_path / "demo-erp"
    shutil.copytree(loader.LIBRARY / "demo-erp", copy)
    return copy


def edit(path, before, after):
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after, 1), encoding="utf-8")


def manifest(before, after):
    return lambda folder: edit(folder / "manifest.yaml", before, after)


def fixture(before, after, name="create_sales_order.ok.yaml"):
    return lambda folder: edit(folder / "fixtures" / name, before, after)


def write(name, text):
    def change(folder):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")

    return change


def remove(name):
    return lambda folder: (folder / name).unlink()


BREAKS = [
    ("C01", remove("manifest.yaml"), "manifest.yaml", ""),
    ("C01", manifest("hub: 1", "hub: 2"), "manifest.yaml", "/hub"),
    ("C01", manifest("hub: 1", "hub: 1\nhub: 1"), "manifest.yaml", ""),
    ("C01", manifest("hub: 1", "hub: 1\nsurprise: 1"), "manifest.yaml", ""),
    ("C01", manifest("effect: create", "effect: maybe"), "manifest.yaml",
     "/actions/create_sales_order/effect"),
    ("C01", manifest("do: ok_duplicate", "do: fail"), "manifest.yaml", ""),
    ("C01", manifest('"${body.code == 0}"', '"${body.code ==}"'), "manifest.yaml", ""),
    ("C01", manifest("input.external_no", "input.extern_no"), "manifest.yaml", ""),
    ("C01", manifest("${field.key}", "${field.kye}"), "manifest.yaml", ""),
    ("C01", write("schemas/get_stock.in.json", '{"type": "blob"}'),
     "schemas/get_stock.in.json", ""),
    ("C01", write("schemas/get_stock.in.json", '{"$ref": "http://x.example/s.json"}'),
     "schemas/get_stock.in.json", ""),
    ("C01", manifest("schemas/get_stock.in.json", "schemas/../../x.json"), "manifest.yaml", ""),
    ("C01", manifest("auth: none", "auth: other"), "manifest.yaml", ""),
    ("C01", manifest("path: /api/ping", 'path: "/api/ping me"'), "manifest.yaml",
     "/lifecycle/test/request/path"),
    ("C02", manifest("key: demo-erp", "key: demo-crm"), "manifest.yaml", "/connector/key"),
    ("C03", write("schemas/get_stock.out.json", '{"type": "string"}'), "manifest.yaml",
     "/actions/get_stock/output"),
    ("C04", remove("fixtures/find_customer.ok.yaml"), "manifest.yaml", "/actions/find_customer"),
    ("C04", fixture("method: POST", "method: PUT"), "fixtures/create_sales_order.ok.yaml",
     "/request/method"),
    ("C04", fixture('total: "176.00"\n    customer', 'total: 176.00\n    customer'),
     "fixtures/create_sales_order.ok.yaml", "/request/json"),
    ("C04", manifest("path: /api/sales-orders", "path: /api/orders"), "", ""),
    ("C04", fixture("lines: []", "lines: [{sku: a, quantity: '1', unit_price: '1'}]",
                    "create_sales_order.bad_input.yaml"),
     "fixtures/create_sales_order.bad_input.yaml", "/refused"),
    ("C04", write("fixtures/broken.yaml", "action: [\n"), "fixtures/broken.yaml", ""),
    ("C04", write("fixtures/odd.yaml", "title: x\n"), "fixtures/odd.yaml", ""),
    ("C04", write("fixtures/odd.yaml", "action: no_such\n"), "fixtures/odd.yaml", "/action"),
    ("C05", fixture("document_no: XS-20261122-0001\n      status: booked",
                    "status: booked"), "fixtures/create_sales_order.ok.yaml", "/response"),
    ("C05", fixture("output:\n  document_no: XS-20261122-0001", "output:\n  document_no: other"),
     "fixtures/create_sales_order.ok.yaml", "/output"),
    ("C05", fixture("cause: data", "cause: auth", "create_sales_order.period_closed.yaml"),
     "fixtures/create_sales_order.period_closed.yaml", "/answer/cause"),
    ("C06", write("schemas/left_over.json", '{"type": "object"}'), "schemas/left_over.json", ""),
    ("C06", write("notes.txt", "x"), "notes.txt", ""),
    ("C07", write("README.md", "# x\n\n## 能做什么\n\n有。\n"), "README.md", ""),
    ("C07", remove("README.md"), "README.md", ""),
    ("C08", write("README.md", "Authorization: Bearer " + "abcdefghij0123456789XYZ"),
     "README.md", ""),
    ("C08", fixture("key: example", "key: ghp_" + "a1B2" * 9), "", ""),
    ("C08", write("fixtures/k.yaml", "-----BEGIN RSA " + "PRIVATE KEY-----"),
     "fixtures/k.yaml", ""),
    ("C08", write("README.md", "Authorization: Basic " + "bGluOnNlY3JldC1wYXNzd29yZA=="),
     "README.md", ""),
    ("C09", manifest("settings_hosts: [base_url]", "settings_hosts: []"), "manifest.yaml",
     "/http/base"),
    ("C09", manifest('base: "${settings.base_url}"', "base: https://evil.example.com"),
     "manifest.yaml", "/http/base"),
    ("C09", manifest('base: "${settings.base_url}"', 'base: "https://${settings.base_url}"'),
     "manifest.yaml", "/http/base"),
    ("C10", write("schemas/get_stock.in.json",
                  '{"type": "object", "properties": {"sku": {"type": "string"}}}'),
     "manifest.yaml", "/connector/version"),
    ("C10", remove("contract.json"), "contract.json", ""),
    ("C10", manifest("version: 1.1.0", "version: 1.1.1"), "contract.json", ""),
    ("C11", manifest("document_no: XS-20261122-0001", "document: XS"), "manifest.yaml",
     "/actions/create_sales_order/sample/output"),
    ("C11", manifest("external_no: SO-2026-1189", 'external_no: ""'), "manifest.yaml",
     "/actions/create_sales_order/sample/input/external_no"),
    ("C12", remove("icon.svg"), "icon.svg", ""),
    ("C12", write("icon.svg", '<svg viewBox="0 0 1 1"><script>1</script></svg>'), "icon.svg", ""),
    ("C12", write("icon.svg", '<svg viewBox="0 0 1 1" onload="x()"/>'), "icon.svg", ""),
    ("C12", write("icon.svg", '<svg viewBox="0 0 1 1"><path fill="url(http://x)"/></svg>'),
     "icon.svg", ""),
    ("C12", write("icon.svg", "<!DOCTYPE svg [<!ENTITY a 'b'>]><svg viewBox='0 0 1 1'/>"),
     "icon.svg", ""),
    ("C12", write("icon.svg", "<svg/>"), "icon.svg", ""),
    ("C12", write("icon.svg", "<svg" + " " * 9000 + 'viewBox="0 0 1 1"/>'), "icon.svg", ""),
    ("C12", write("icon.svg", "not a picture"), "icon.svg", ""),
    ("C13", manifest("演示账房, en: Demo ERP", "TODO, en: TODO Demo ERP"), "manifest.yaml", ""),
    ("C13", write("README.md", "# x\n\n## 能做什么\n\n- TODO\n"), "README.md", ""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "change", "file", "pointer"),
    BREAKS,
    ids=[f"{number}-{one[0]}" for number, one in enumerate(BREAKS)],
)
def test_a_broken_rule_is_named_with_its_place_and_its_cure(folder, rule, change, file, pointer):
    change(folder)
    found = [one for one in validate.validate(folder) if one.rule == rule]
    assert found
    assert not file or file in {one.file for one in found}
    assert any(one.pointer.startswith(pointer) for one in found)
    for one in found:
        assert one.say["zh"] != one.say["en"]
        assert any("\u4e00" <= letter <= "\u9fff" for letter in one.say["zh"])


def test_every_rule_is_broken_at_least_once():
    assert {one[0] for one in BREAKS} == set(check.RULES)


def test_findings_in_the_manifest_carry_the_line(folder):
    manifest("effect: create", "effect: maybe")(folder)
    [found] = validate.validate(folder)
    line = (folder / "manifest.yaml").read_text(encoding="utf-8").splitlines()[found.line - 1]
    assert "effect: maybe" in line


def test_an_exemption_with_a_reason_silences_one_rule(folder):
    (folder / "README.md").unlink()
    with (folder / "manifest.yaml").open("a", encoding="utf-8") as file:
        file.write("\nexempt: {C07: used only inside a test of exemptions}\n")
    assert validate.validate(folder) == []


def test_secrets_and_hosts_cannot_be_exempt(folder):
    write("README.md", "token: xoxb-" + "1234567890123")(folder)
    with (folder / "manifest.yaml").open("a", encoding="utf-8") as file:
        file.write("\nexempt: {C07: no page in this test, C08: we like our secrets}\n")
    assert {one.rule for one in validate.validate(folder)} == {"C08"}


def test_the_contract_is_written_only_for_a_new_version(folder):
    write(
        "schemas/get_stock.in.json",
        json.dumps({"type": "object", "properties": {"sku": {"type": "string"}}}),
    )(folder)
    assert not validate.write_contract(folder)
    manifest("version: 1.1.0", "version: 1.2.0")(folder)
    assert validate.write_contract(folder)
    assert not [one for one in validate.validate(folder) if one.rule == "C10"]
    assert contract.stated(folder)["version"] == "1.2.0"


def test_the_report_reads_well_in_both_languages(folder):
    assert validate.report([], "zh") == "全部规则通过"
    (folder / "icon.svg").unlink()
    found = validate.validate(folder)
    assert validate.report(found, "en").splitlines() == [
        "icon.svg C12 icon.svg is missing",
        "1 findings",
    ]
