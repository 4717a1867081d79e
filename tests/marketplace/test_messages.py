"""Catalogues: what is said is collected, kept, checked and compiled; nothing else changes."""

import gettext

import pytest

from marketplace import messages


@pytest.fixture
def house(tmp_path):
    package = tmp_path / "kernel"
    (package / "templates" / "kernel").mkdir(parents=True)
    (package / "errors.py").write_text(
        'class A(Exception):\n    title = N_("Nothing was stored")\n'
        'def f(n): return ngettext("%(num)d run", "%(num)d runs", n)\n'
        'def g(): return lazy_gettext("Hello %(name)s")\n'
    )
    (package / "templates" / "kernel" / "page.html").write_text(
        '{% set x = {"a": N_("Draft")} %}{{ _("Nothing was stored") }}{{ _("It\'s “new”") }}'
    )
    return tmp_path


def write(house, package, text):
    path = messages.catalogue_path(package, house)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(messages.HEADER + text, "utf-8")
    return path


COMPLETE = """
msgid "%(num)d run"
msgid_plural "%(num)d runs"
msgstr[0] "%(num)d 次运行"

msgid "Draft"
msgstr "草稿"

msgid "Hello %(name)s"
msgstr "%(name)s,您好"

msgid "It's “new”"
msgstr "这是“新”的"

msgid "Nothing was stored"
msgstr "没有保存任何内容"
""".replace(",", "\uff0c")


def ids(catalogue):
    return [message.id for message in catalogue if message.id]


def test_code_and_templates_are_both_read(house):
    assert set(ids(messages.extract("kernel", house))) == {
        "Nothing was stored",
        ("%(num)d run", "%(num)d runs"),
        "Hello %(name)s",
        "Draft",
        "It's “new”",
    }


def test_a_complete_catalogue_has_no_faults_and_renders_the_same_again(house):
    write(house, "kernel", COMPLETE)
    assert list(messages.faults("kernel", house)) == []
    once = messages.render(
        messages.merge(messages.extract("kernel", house), messages.read("kernel", house))
    )
    write(house, "kernel", once.removeprefix(messages.HEADER))
    twice = messages.render(
        messages.merge(messages.extract("kernel", house), messages.read("kernel", house))
    )
    assert once == twice
    assert "草稿" in once
    assert "POT-Creation-Date" not in once
    assert "errors.py" not in once


def test_merging_drops_the_dead_and_takes_what_another_package_knows(house):
    write(house, "kernel", 'msgid "Gone"\nmsgstr "没了"\n\nmsgid "Draft"\nmsgstr ""\n')
    write(house, "catalog", 'msgid "Draft"\nmsgstr "草稿"\n')
    merged = messages.merge(
        messages.extract("kernel", house),
        messages.read("kernel", house),
        [messages.read("catalog", house)],
    )
    assert "Gone" not in ids(merged)
    assert merged.get("Draft").string == "草稿"


@pytest.mark.parametrize(
    ("broken", "fault"),
    [
        (COMPLETE.replace('msgstr "草稿"', 'msgstr ""'), "not translated: 'Draft'"),
        (COMPLETE.replace('msgid "Draft"', '#, fuzzy\nmsgid "Draft"'), "marked fuzzy: 'Draft'"),
        (COMPLETE.replace('msgid "Draft"\nmsgstr "草稿"\n', ""), "not in the catalogue: 'Draft'"),
        (COMPLETE + '\nmsgid "Gone"\nmsgstr "没了"\n', "said nowhere any more: 'Gone'"),
        (
            COMPLETE.replace('"%(name)s\uff0c', '"%(nam)s\uff0c'),
            "its places ['nam'] are not ['name']",
        ),
        (COMPLETE.replace('"%(num)d 次', '"一次'), "its places [] are not ['num']"),
        (COMPLETE.replace("\uff0c", ","), "half-width punctuation"),
    ],
)
def test_each_kind_of_fault_is_found_alone(house, broken, fault):
    write(house, "kernel", broken)
    found = list(messages.faults("kernel", house))
    assert len(found) == 1
    assert fault in found[0]


def test_two_packages_must_not_translate_one_text_differently(house):
    write(house, "kernel", 'msgid "Draft"\nmsgstr "草稿"\n')
    write(house, "catalog", 'msgid "Draft"\nmsgstr "初稿"\n')
    assert list(messages.clashes(house)) == [
        "kernel and catalog say two things for 'Draft': 草稿 / 初稿"
    ]


@pytest.mark.parametrize(
    ("half", "full"),
    [
        ("你好,世界", "你好\uff0c世界"),
        ("%(app)s,请重试!", "%(app)s\uff0c请重试\uff01"),
        ("(选填)", "\uff08选填\uff09"),
        ("(%(num)d 条评价)", "\uff08%(num)d 条评价\uff09"),
        ("编号(报修用):", "编号\uff08报修用\uff09\uff1a"),
        ("共 30,完成", "共 30\uff0c完成"),
        ("f(x), see http://a.b:80/", "f(x), see http://a.b:80/"),
        ("12:30 开始", "12:30 开始"),
    ],
)
def test_chinese_gets_chinese_punctuation(half, full):
    assert messages.typeset(half) == full


def test_what_is_compiled_can_be_read_by_gettext(house):
    source = write(house, "kernel", COMPLETE)
    messages.compile_catalogue("kernel", house)
    with source.with_suffix(".mo").open("rb") as stream:
        words = gettext.GNUTranslations(stream)
    assert words.gettext("Draft") == "草稿"
    assert words.ngettext("%(num)d run", "%(num)d runs", 5) == "%(num)d 次运行"
    messages.compile_catalogue("webhooks", house)  # a package without a catalogue is fine
