import time

import pytest
from factories.catalog import make_app, make_vendor

from catalog import search, seed
from kernel.errors import Malformed


@pytest.fixture
def shelf(session):
    """Five apps whose words stand in different places."""
    vendor = make_vendor(session)

    def put(key, zh, en, tagline, **over):
        make_app(
            session,
            vendor,
            key=key,
            name={"zh": zh, "en": en},
            tagline={"zh": tagline, "en": en},
            **over,
        )

    put("stocky", "库存管家", "Stocky", "进出库一目了然")
    put("shop", "小店", "Shop", "卖货，库存自动扣减", slots=["marketing"])
    put("acme", "艾克美 ERP", "Acme ERP", "采购与财务", slots=["procurement", "organization"])
    put("plan", "排产宝", "Planner", "按订单排产", slots=["production"], layer="advanced")
    put("secret", "密码本", "Secret", "保管密码", slots=["organization"], layer="security")
    return session


def keys(results):
    return [hit.key for hit in results.hits]


def test_a_word_in_the_name_comes_before_one_in_the_tagline(shelf):
    assert keys(search.search(shelf, "库存")) == ["stocky", "shop", "acme"]  # ERP is a synonym


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("库", ["stocky", "shop"]),
        ("kucun", ["stocky"]),
        ("kcgj", ["stocky"]),
        ("ＥＲＰ", ["acme"]),
        ("erp", ["acme"]),
        ("Stock", ["stocky"]),
        ("排产", ["plan"]),
        ("产排", []),
        ("采购 财务", ["acme"]),
        ("% _", []),
        ("'; drop table app; --", []),
        ("密码", ["secret"]),
    ],
)
def test_words_are_found_the_same_on_both_databases(shelf, typed, found):
    results = search.search(shelf, typed)
    hits = [] if results.is_partial else keys(results)
    if typed == "% _":
        assert len(keys(results)) == 5  # no words at all: the whole shelf
    elif typed == "erp" or typed == "ＥＲＰ":
        assert hits[0] == "acme"
    else:
        assert hits[: len(found)] == found
        assert found or not hits


def test_synonyms_bring_more_but_behind(shelf):
    assert keys(search.search(shelf, "进销存")) == ["acme", "stocky", "shop"]
    assert keys(search.search(shelf, "erp"))[0] == "acme"


def test_words_that_never_meet_are_marked_partial(shelf):
    results = search.search(shelf, "密码 排产")
    assert results.is_partial
    assert set(keys(results)) == {"secret", "plan"}


def test_filters_narrow_and_counts_ignore_their_own_group(shelf):
    results = search.search(shelf, filters={"slot": ["organization"]})
    assert set(keys(results)) == {"acme", "secret"}
    assert results.facets["slot"]["marketing"] == 2  # stocky (by default) and shop
    assert results.facets["layer"] == {"cloud": 1, "security": 1}
    both = search.search(shelf, filters={"slot": ["organization", "production"]})
    assert set(keys(both)) == {"acme", "secret", "plan"}


def test_nothing_found_says_which_condition_is_in_the_way(shelf):
    results = search.search(shelf, "库存", {"slot": ["marketing"], "layer": ["security"]})
    assert results.hits == []
    assert results.without == {"layer": 2}


def test_unknown_filters_are_ignored(shelf):
    assert search.search(shelf, filters={"colour": ["red"]}).total == 5


def test_pages_follow_one_another_without_gaps(shelf):
    seen, cursor = [], None
    while True:
        page = search.search(shelf, cursor=cursor, limit=2, order="name")
        seen += keys(page)
        assert page.total == 5
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == ["acme", "plan", "secret", "shop", "stocky"]


@pytest.mark.parametrize("cursor", ["x", "LTE=", "!!!!", "OTk5OTk5OTk5"])
def test_a_foreign_cursor_is_malformed(shelf, cursor):
    with pytest.raises(Malformed):
        search.search(shelf, cursor=cursor)


def test_suggestions_look_at_names_only(shelf):
    assert [hit.key for hit in search.suggest(shelf, "kuc")] == ["stocky"]
    assert [hit.key for hit in search.suggest(shelf, "库存")] == ["stocky"]
    assert search.suggest(shelf, "  ") == []


def test_an_unpublished_app_is_not_found(shelf):
    from catalog import apps, listings

    listings.unpublish(shelf, apps.by_key(shelf, "stocky").id)
    shelf.flush()
    assert keys(search.search(shelf, "库存管家")) != ["stocky"]
    assert "stocky" not in keys(search.search(shelf))


def test_index_words_pair_chinese_and_keep_latin_whole():
    assert search.index_words("库存ERP系统 v2") == ["库存", "存", "erp", "系统", "统", "v2"]
    assert search.query_words("库存管理") == ["库存", "存管", "管理"]
    assert search.normalise("Ｃａｆé") == "cafe"


def test_the_real_catalogue_answers_golden_questions(session):
    seed.seed(session, include_demo=True)
    session.flush()
    for typed, expected in {
        "gitea": "gitea",
        "erp": "erpnext",
        "客户管理": "espocrm",
        "网店": "woocommerce",
        "签署": "docuseal",
        "排产": "frepple",
        "密码": "vaultwarden",
        "仓库": "greaterwms",
    }.items():
        assert expected in keys(search.search(session, typed))[:12], typed
    assert search.search(session).total == 123


@pytest.mark.parametrize(
    ("typed", "meant", "expected"),
    [
        ("kucun", "库存", "inventree"),
        ("fapiao", "发票", "invoice-ninja"),
        ("caigou", "采购", "erpnext"),
        ("pai chan", "排产", "frepple"),
        ("库村", "库存", "inventree"),
        ("cangkuguanli", "仓库 管理", "jsherp"),
        ("jxc", "进销存", "jsherp"),
        ("oodo", "odoo", "odoo-ce"),
        ("erpnxt", "erpnext", "erpnext"),
    ],
)
def test_what_was_probably_meant_is_shown_and_said(session, typed, meant, expected):
    seed.seed(session, include_demo=True)
    session.flush()
    results = search.search(session, typed, limit=50)
    assert results.instead == meant
    assert not results.is_partial
    assert expected in keys(results)


@pytest.mark.parametrize("typed", ["库存", "erp", "gitea", "zzzz", "密码 排产", "🙂", "x" * 99, ""])
def test_nothing_is_guessed_for_what_is_there_or_far_from_everything(session, typed):
    seed.seed(session, include_demo=True)
    session.flush()
    assert search.search(session, typed).instead is None


def test_a_guess_is_quick_on_hostile_text(session):
    seed.seed(session, include_demo=True)
    session.flush()
    search.search(session, "kucun")  # loads the dictionary
    start = time.thread_time()
    for typed in ("a" * 100, "shi" * 33, "库" * 100, "e" * 50 + " " + "r" * 49):
        search.search(session, typed)
    assert time.thread_time() - start < 2
