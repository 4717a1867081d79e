"""Finding apps: the same words on both databases, Chinese cut into pairs, names also as pinyin."""

import base64
import itertools
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

from sqlalchemy import Text, and_, or_, select, type_coerce
from sqlmodel import Session, col

from catalog import guesses
from catalog.slots import read_data
from catalog.tables import App, Listing
from kernel.errors import N_, Malformed

FACETS = (
    *("slot", "sub_scenario", "layer", "licence", "deployment", "size"),
    *("sso", "webhooks", "chinese_ui"),
)
MAX_QUERY = 100
PAGE = 24
_CJK = "\u3400-\u4dbf\u4e00-\u9fff"
_RUNS = re.compile(rf"[{_CJK}]+|[^\W_{_CJK}]+")
Filters = dict[str, list[str]]


@dataclass(frozen=True)
class Hit:
    """One found app, with what a card on a shelf shows."""

    key: str
    name: dict[str, str]
    tagline: dict[str, str]
    layer: str
    facets: dict[str, Any]
    is_demo: bool
    has_release: bool
    score: int


@dataclass(frozen=True)
class _Row:
    """What ranking and counting need of one app; many are read, so they stay narrow."""

    key: str
    facets: dict[str, list[str]]
    has_release: bool
    search_name: str = ""
    search_tagline: str = ""
    search_body: str = ""


@dataclass(frozen=True)
class Results:
    """A page of hits, all counts, and what to loosen when there is nothing."""

    hits: list[Hit]
    total: int
    facets: dict[str, dict[str, int]]
    next_cursor: str | None
    # the words were not all found in one app, so apps with any of them are shown
    is_partial: bool = False
    # filter name -> how many there would be without it
    without: dict[str, int] = field(default_factory=dict)
    # nothing held the words, so these are the results of what was probably meant
    instead: str | None = None


# --- words ---------------------------------------------------------------------------------------


def normalise(text: str) -> str:
    """Fold width, case and accents, so that ＥＲＰ, erp and Érp are one word."""
    folded = unicodedata.normalize("NFKD", text).casefold()
    return "".join(letter for letter in folded if not unicodedata.combining(letter))


def index_words(text: str) -> list[str]:
    """Cut text for the index: Latin words whole, Chinese runs into pairs and the last character."""
    words: list[str] = []
    for run in _RUNS.findall(normalise(text)):
        if re.match(rf"[{_CJK}]", run):
            words += [run[i : i + 2] for i in range(len(run) - 1)] + [run[-1]]
        else:
            words.append(run)
    return words


def index_text(*texts: str | None) -> str:
    """Return the index words between blanks, ready for LIKE '% word%'."""
    words = dict.fromkeys(word for text in texts if text for word in index_words(text))
    return f" {' '.join(words)} "


@lru_cache(maxsize=20_000)
def pinyin_words(name: str) -> str:
    """Return a Chinese name's pinyin run together and its initials: 库存 gives `kucun kc`."""
    # half a second of dictionary, which most processes never need
    from pypinyin import Style, lazy_pinyin  # noqa: PLC0415

    words = []
    for run in re.findall(rf"[{_CJK}]+", name):
        words.append("".join(lazy_pinyin(run)))
        words.append("".join(lazy_pinyin(run, style=Style.FIRST_LETTER)))
    return " ".join(words)


def query_words(query: str) -> list[str]:
    """Cut what somebody typed: each word must begin a word of the index."""
    words: list[str] = []
    for run in _RUNS.findall(normalise(query[:MAX_QUERY])):
        if re.match(rf"[{_CJK}]", run) and len(run) > 1:
            words += [run[i : i + 2] for i in range(len(run) - 1)]
        else:
            words.append(run)
    return list(dict.fromkeys(words))


@cache
def _synonyms() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for group in read_data("synonyms.yaml"):
        for word in group:
            found.setdefault(normalise(str(word)), []).extend(normalise(str(w)) for w in group)
    return found


def _alternatives(query: str) -> list[list[str]]:
    """Return the query's words, and once more for every synonym of the whole query."""
    whole = normalise(query).strip()
    asked = [query_words(query)]
    others = [synonym for synonym in _synonyms().get(whole, ()) if synonym != whole]
    asked += [query_words(synonym) for synonym in others]
    return [words for words in asked if words]


# --- asking --------------------------------------------------------------------------------------


def search(
    session: Session,
    query: str = "",
    filters: Filters | None = None,
    cursor: str | None = None,
    limit: int = PAGE,
    order: str = "relevance",
) -> Results:
    """Return the apps that fit, best first, with counts for every facet.

    Facet counts of a group ignore that group's own filter, so they say what choosing would give.
    """
    chosen = {name: values for name, values in (filters or {}).items() if name in FACETS and values}
    asked = _alternatives(query)
    rows = _rows(session, asked, every=True)
    is_partial, instead = False, None
    if asked and not rows:
        instead = guesses.guess(query[:MAX_QUERY], _shelf_words(session), pinyin_words)
        meant = _alternatives(instead or "")
        rows = _rows(session, meant, every=True) if meant else []
        if rows:
            asked = meant
        else:
            rows, is_partial, instead = _rows(session, asked, every=False), True, None
    scored = [(_score(row, asked, is_partial=is_partial), row) for row in rows]
    fitting = [pair for pair in scored if _fits(pair[1].facets, chosen)]
    if order == "name":
        fitting.sort(key=lambda pair: pair[1].key)
    else:
        fitting.sort(key=lambda pair: (-pair[0], pair[1].key))
    start = _start(cursor)
    page = fitting[start : start + limit]
    without = {} if fitting else _without(rows, chosen)
    return Results(
        hits=_hits(session, page),
        total=len(fitting),
        facets={name: _count(rows, chosen, name) for name in FACETS},
        next_cursor=_cursor(start + limit) if start + limit < len(fitting) else None,
        is_partial=is_partial and bool(fitting),
        without=without,
        instead=instead if fitting else None,
    )


def suggest(session: Session, query: str, limit: int = 8) -> list[Hit]:
    """Return the apps whose name begins with, or contains, what is being typed."""
    asked = [query_words(query)]
    if not asked[0]:
        return []
    rows = [
        (_score(row, asked, is_partial=False), row)
        for row in _rows(session, asked, every=True)
        if all(f" {word}" in row.search_name for word in asked[0])
    ]
    rows.sort(key=lambda pair: (-pair[0], pair[1].key))
    return _hits(session, rows[:limit])


def _rows(session: Session, asked: list[list[str]], *, every: bool) -> list[_Row]:
    """Read the narrow columns of the published apps that hold the words."""
    columns: list[Any] = [col(App.key), type_coerce(col(Listing.facets), Text), Listing.release_id]
    if asked:
        columns += [Listing.search_name, Listing.search_tagline, Listing.search_body]
    statement = (
        select(*columns)
        .join(Listing, col(Listing.app_id) == col(App.id))
        .where(col(Listing.state) == "published")
    )
    if asked:
        conditions = []
        for words in asked:
            held = [_holds(word) for word in words]
            conditions.append(and_(*held) if every else or_(*held))
        statement = statement.where(or_(*conditions))
    return [
        _Row(row[0], _facets(row[1]), row[2] is not None, *row[3:])
        for row in session.execute(statement).all()
    ]


def _shelf_words(session: Session) -> Counter[str]:
    """Count the words on the published cards, and the words of the synonyms."""
    statement = select(col(Listing.search_name), col(Listing.search_tagline)).where(
        col(Listing.state) == "published"
    )
    texts = (text for row in session.execute(statement).all() for text in row)
    return Counter(word for text in texts for word in text.split()) + Counter(list(_synonyms()))


@lru_cache(maxsize=20_000)
def _facets(text: str) -> dict[str, list[str]]:
    """Read a listing's facets; the same text comes with every search."""
    found: dict[str, list[str]] = json.loads(text)
    return found


def _holds(word: str) -> Any:
    text = col(Listing.search_name) + col(Listing.search_tagline) + col(Listing.search_body)
    return text.contains(f" {word}", autoescape=True)


def _score(row: _Row, asked: list[list[str]], *, is_partial: bool) -> int:
    """Weigh where words stand: name before tagline before description, whole before beginning."""
    best = 0
    for rank, words in enumerate(asked):
        total = 0
        for word in words:
            if f" {word} " in row.search_name:
                total += 100
            elif f" {word}" in row.search_name:
                total += 80
            elif f" {word}" in row.search_tagline:
                total += 20
            elif f" {word}" in row.search_body:
                total += 5
            elif not is_partial:
                total -= 1_000
        # any place of what was typed counts for more than a synonym in the name
        best = max(best, total if rank == 0 else total // 10)
    return best + (2 if row.has_release else 0)


def _fits(facets: dict[str, Any], chosen: Filters, besides: str | None = None) -> bool:
    return all(
        name == besides or any(value in facets.get(name, ()) for value in values)
        for name, values in chosen.items()
    )


def _count(rows: Iterable[_Row], chosen: Filters, name: str) -> dict[str, int]:
    others = {other: values for other, values in chosen.items() if other != name}
    fitting = [row for row in rows if _fits(row.facets, others)] if others else rows
    counts = Counter(itertools.chain.from_iterable(row.facets.get(name, ()) for row in fitting))
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def _without(rows: Iterable[_Row], chosen: Filters) -> dict[str, int]:
    kept = list(rows)
    counts = {
        name: sum(1 for row in kept if _fits(row.facets, chosen, besides=name)) for name in chosen
    }
    return {name: count for name, count in counts.items() if count}


def _hits(session: Session, page: list[tuple[int, _Row]]) -> list[Hit]:
    """Read what the cards of one page show."""
    statement = (
        select(App, Listing)
        .join(Listing, col(Listing.app_id) == col(App.id))
        .where(col(App.key).in_([row.key for _, row in page]))
    )
    found = {app.key: (app, listing) for app, listing in session.execute(statement).all()}
    return [_hit(score, row, *found[row.key]) for score, row in page if row.key in found]


def _hit(score: int, row: _Row, app: App, listing: Listing) -> Hit:
    return Hit(
        key=app.key,
        name=app.name,
        tagline=listing.tagline,
        layer=app.layer,
        facets=row.facets,
        is_demo=app.is_demo,
        has_release=row.has_release,
        score=score,
    )


def _cursor(start: int) -> str:
    return base64.urlsafe_b64encode(str(start).encode()).decode()


def _start(cursor: str | None) -> int:
    if not cursor:
        return 0
    try:
        start = int(base64.urlsafe_b64decode(cursor.encode()).decode())
    except ValueError as error:
        raise Malformed(detail=N_("This cursor is not one of ours")) from error
    if not 0 <= start <= 1_000_000:
        raise Malformed(detail=N_("This cursor is not one of ours"))
    return start
