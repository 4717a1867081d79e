"""The command line of connectors: init, validate, test, diff."""

import json
import shutil

import pytest
from click.testing import CliRunner

from connectors.cli import group
from connectors.engine import loader
from connectors.lab import validate


def call(*arguments, code=0):
    result = CliRunner().invoke(group, [str(one) for one in arguments])
    assert result.exit_code == code, result.output
    return result.output


def last(output):
    return json.loads(output.strip().splitlines()[-1])


@pytest.fixture
def erp(tmp_path):
    folder = tmp_path / "old" / "demo-erp"
    shutil.copytree(loader.LIBRARY / "demo-erp", folder)
    return folder


def edit(folder, old, new, name="manifest.yaml"):
    path = folder / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def copied(folder, tmp_path):
    other = tmp_path / "new" / folder.name
    shutil.copytree(folder, other)
    return other


def write_out(folder):
    for path in folder.rglob("*"):
        if path.is_file():
            path.write_text(path.read_text().replace("TODO", "done"))


def test_a_good_folder_is_ok_and_a_broken_one_says_where(erp):
    call("validate", erp)
    edit(erp, "effect: create", "effect: conjure")
    output = call("validate", erp, code=1)
    line = next(
        number
        for number, text in enumerate((erp / "manifest.yaml").read_text().splitlines(), 1)
        if "conjure" in text
    )
    assert f"manifest.yaml:{line} /actions/create_sales_order/effect C01" in output
    assert "Unknown" not in output


def test_the_whole_library_is_validated_and_played_in_one_line_of_figures():
    count = len(loader.library())
    assert last(call("validate", "--all")) == {"connectors": count, "passed": count, "failed": 0}
    played = last(call("test", "--offline", "--all"))
    assert played["connectors"] == count
    assert played["failed"] == 0
    assert played["passed"] > 20 * count


def test_both_languages_are_spoken(erp):
    edit(erp, "/api/ping", "/api/ping}")
    assert "不是可读的 YAML" in call("validate", erp, code=1)
    assert "This is not readable YAML" in call("validate", erp, "--language", "en", code=1)


def test_a_fixture_that_lies_fails_with_its_line(erp):
    edit(erp, "method: POST", "method: PUT", "fixtures/create_sales_order.ok.yaml")
    output = call("test", erp, "--language", "en", code=1)
    assert "FAIL create_sales_order.ok.yaml" in output
    assert "fixtures/create_sales_order.ok.yaml:" in output
    assert last(output)["failed"] >= 1


def test_a_limit_that_is_taken_for_a_failure_is_found(erp):
    edit(
        erp,
        '{when: {status: 429}, do: wait, class: limit, after: "${header[\\"retry-after\\"]}"}',
        "{when: {status: 429}, do: fail, class: data, say: {zh: 不, en: no}}",
    )
    output = call("test", erp, "--language", "en", code=1)
    assert "FAIL create_sales_order · limit" in output
    assert "reads “too many calls” as fail (data)" in output


def test_a_trigger_that_anyone_could_forge_is_found(tmp_path):
    folder = tmp_path / "generic-http"
    shutil.copytree(loader.LIBRARY / "generic-http", folder)
    edit(folder, "algorithm: sha256, encoding: hex}", 'algorithm: sha256, signed: "{timestamp}"}')
    output = call("test", folder, "--language", "en", code=1)
    assert "FAIL signed_call · signed" in output


def test_missing_refusals_are_asked_for(erp):
    (erp / "fixtures" / "create_sales_order.rate_limited.yaml").unlink()
    assert "T02" in call("test", erp, code=1)


def test_a_new_connector_needs_only_its_todos_written(tmp_path):
    folder = tmp_path / "acme-shop"
    assert "2 actions, 1 triggers" in call("init", folder, "--language", "en")
    findings = validate.validate(folder)
    assert {one.rule for one in findings} == {"C13"}
    assert all(one.line for one in findings)
    write_out(folder)
    assert validate.validate(folder) == []
    assert last(call("test", folder))["failed"] == 0
    again = call("init", folder, "--language", "en", code=1)
    assert "is there already" in again


@pytest.mark.parametrize("key", ["Acme", "1st", "a--b", "acme_shop", "x" * 61])
def test_a_name_that_is_no_key_is_refused_and_nothing_written(tmp_path, key):
    assert "is no key" in call("init", tmp_path / key, "--language", "en", code=1)
    assert list(tmp_path.iterdir()) == []


def test_lost_fixtures_and_a_new_contract_are_written(tmp_path):
    folder = tmp_path / "acme-shop"
    call("init", folder)
    kept = (folder / "fixtures" / "create_order.ok.yaml").read_bytes()
    (folder / "fixtures" / "create_order.ok.yaml").unlink()
    edit(folder, "x-title", "x-title", "schemas/create_order.in.json")
    edit(folder, '"maxLength":500', '"maxLength":400', "schemas/create_order.in.json")
    refused = call("test", folder, "--write-contract", "--language", "en", code=1)
    assert "raise connector.version first" in refused
    edit(folder, "version: 0.1.0", "version: 0.2.0")
    call("test", folder, "--write-contract", "--write-fixtures")
    assert (folder / "fixtures" / "create_order.ok.yaml").read_bytes() == kept
    write_out(folder)
    assert validate.validate(folder) == []


def test_requests_of_fixtures_follow_a_wanted_change(erp):
    edit(erp, "path: /api/sales-orders", "path: /api/v2/sales-orders")
    assert last(call("test", erp, code=1))["failed"] > 0
    output = call("test", erp, "--write-requests")
    assert "~ fixtures/create_sales_order.ok.yaml" in output
    assert "~ fixtures/find_customer.ok.yaml" not in output
    text = (erp / "fixtures" / "create_sales_order.ok.yaml").read_text()
    assert "/api/v2/sales-orders" in text


def test_equal_editions_do_not_differ(erp, tmp_path):
    assert last(call("diff", erp, copied(erp, tmp_path)))["changes"] == 0


CLIENT = 'kind: oauth2_client\n    token: {url: "${settings.base_url}/t"}'
BREAKS = [
    ("schemas/create_sales_order.in.json", '"external_no",', '"external_no", "note",', "note"),
    ("manifest.yaml", "  get_stock:\n", "  read_stock:\n", "renamed to read_stock"),
    ("manifest.yaml", "effect: create", "effect: update", "/effect"),
    ("manifest.yaml", "  idempotency: {header: Idempotency-Key}", "  headers: {}", "repeated"),
    ("manifest.yaml", "kind: api_key", CLIENT, "/kind"),
    ("schemas/create_sales_order.out.json", '"document_no"', '"doc_no"', "renamed"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "old", "new", "word"), BREAKS)
def test_breaks_are_told_and_need_a_first_number(erp, tmp_path, name, old, new, word):
    other = copied(erp, tmp_path)
    edit(other, old, new, name)
    output = call("diff", erp, other, "--language", "en", code=1)
    assert word in output
    assert "BREAKING" in output
    edit(other, "version: 1.1.0", "version: 1.9.0")
    call("diff", erp, other, code=1)
    edit(other, "version: 1.9.0", "version: 2.0.0")
    assert last(call("diff", erp, other))["allowed"] is True


def test_another_dedupe_key_is_a_break(tmp_path):
    shop = tmp_path / "old" / "demo-shop"
    shutil.copytree(loader.LIBRARY / "demo-shop", shop)
    other = copied(shop, tmp_path)
    edit(other, "dedupe: {header: webhook-id}", "dedupe: {pointer: /data/order_no}")
    edit(other, "kind: objects", "kind: objects")
    output = call("diff", shop, other, "--language", "en", code=1)
    assert output.count("would fire once more") == 2


def test_what_only_adds_needs_any_higher_version(erp, tmp_path):
    other = copied(erp, tmp_path)
    edit(other, "hosts: []", "hosts: [api.example.com]")
    output = call("diff", erp, other, "--language", "en", code=1)
    assert "one more host" in output
    assert last(output) == {
        "old": "1.1.0", "new": "1.1.0", "changes": 1, "breaking": 0, "allowed": False,
    }  # fmt: skip
    edit(other, "version: 1.1.0", "version: 1.1.1")
    call("diff", erp, other)
