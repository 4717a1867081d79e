"""Values drawn from a JSON Schema with hypothesis, and small things that may be wrong with them."""

import copy
import random
import re
from datetime import UTC, date, datetime
from re import _parser as sre_parse

from hypothesis import strategies as st

from catalog.schema_costs import resolve

MAX_DEPTH = 2
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-2, 2) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)
_DAYS = st.dates(date(2020, 1, 1), date(2030, 12, 31)).map(date.isoformat)
_TIMES = st.datetimes(datetime(2020, 1, 1), datetime(2030, 12, 31), timezones=st.just(UTC)).map(
    lambda moment: moment.isoformat(timespec="seconds").replace("+00:00", "Z")
)
_FORMATS = {"date": _DAYS, "date-time": _TIMES, "uri": st.just("https://example.com/a")}


def values_of(root, part=None, depth=0):
    """Draw values that a schema accepts; it may use what the vocabulary uses."""
    part = root if part is None else part
    if isinstance(part.get("$ref"), str):
        target = resolve(root, part["$ref"])
        needed = [*target.get("required", ()), *part.get("required", ())]
        return values_of(root, {**target, "required": needed} if needed else target, depth)
    if "const" in part:
        return st.just(part["const"])
    if "enum" in part:
        return st.sampled_from(part["enum"])
    kind = part.get("type")
    if isinstance(kind, list):
        return st.one_of(*(values_of(root, {**part, "type": one}, depth) for one in kind))
    return _DRAWN[kind](root, part, depth)


# Characters of every width, a blank, and what ends a line or looks like a blank to some engines.
_PLAIN = "aZ09x-_./:@中文é𠀀 ~\u2003\u00a0"
_CLASSES = {"CATEGORY_SPACE": " ", "CATEGORY_NOT_SPACE": "aZ09中é", "CATEGORY_DIGIT": "0123456789"}


def _matching(pattern):
    """Draw texts that a pattern describes, cheaply: a seed, and a walk over the parsed pattern."""
    parsed = sre_parse.parse(pattern)

    def written(seed):
        return "".join(_written(parsed, random.Random(seed)))

    texts = st.integers(0, 1 << 32).map(written)
    return texts.filter(lambda text: re.fullmatch(pattern, text))


def _written(parts, chance):
    for word, given in parts:
        yield from _WRITERS[str(word)](given, chance)


def _one_of(choices, chance):
    word, given = chance.choice([one for one in choices if str(one[0]) != "NEGATE"])
    if str(choices[0][0]) == "NEGATE":
        refused = "".join(chr(one) for kind, one in choices[1:] if str(kind) == "LITERAL")
        return [chance.choice([char for char in "aZ09中é-" if char not in refused])]
    if str(word) == "RANGE":
        return [chr(chance.randint(*given))]
    return [_CLASSES[str(given)][0] if str(word) == "CATEGORY" else chr(given)]


def _repeated(given, chance):
    least, most, inner = given
    for _ in range(chance.randint(least, min(int(most), least + 6))):
        yield from _written(inner, chance)


_WRITERS = {
    "LITERAL": lambda given, _: [chr(given)],
    "ANY": lambda _, chance: [chance.choice(_PLAIN)],
    "IN": _one_of,
    "AT": lambda *_: [],
    "SUBPATTERN": lambda given, chance: _written(given[3], chance),
    "BRANCH": lambda given, chance: _written(chance.choice(given[1]), chance),
    "MAX_REPEAT": _repeated,
}


def _text(_root, part, _depth):
    longest = part.get("maxLength", 500)
    if part.get("format") in _FORMATS:
        return _FORMATS[part["format"]]
    if "pattern" in part:
        return _matching(part["pattern"]).filter(lambda text: len(text) <= longest)
    return st.text(min_size=part.get("minLength", 0), max_size=12)


def _number(_root, part, _depth):
    low, high = part.get("minimum", -1_000), part.get("maximum", 1_000)
    return st.integers(int(low), int(high)) | st.floats(low, high, allow_nan=False)


def _integer(_root, part, _depth):
    return st.integers(part.get("minimum", -1_000), part.get("maximum", 1_000_000))


def _list(root, part, depth):
    least = part.get("minItems", 0)
    inner = values_of(root, part["items"], depth + 1) if "items" in part else ANYTHING
    return st.lists(inner, min_size=least, max_size=least + 1)


def _object(root, part, depth):
    fields = part.get("properties", {})
    if not fields:
        names, least = st.text(min_size=1, max_size=5), part.get("minProperties", 0)
        return st.dictionaries(names, st.integers(0, 9), min_size=least, max_size=least + 2)
    drawn = []
    for alternative in part.get("anyOf", [{}]):
        needed = {*part.get("required", ()), *alternative.get("required", ())}
        # far inside only what is needed, so that values stay small
        shown = [name for name in fields if name in needed or depth < MAX_DEPTH]
        inside = {name: values_of(root, fields[name], depth + 1) for name in shown}
        drawn.append(
            st.fixed_dictionaries(
                {name: one for name, one in inside.items() if name in needed},
                optional={name: one for name, one in inside.items() if name not in needed},
            )
        )
    return st.one_of(*drawn)


_DRAWN = {
    "string": _text,
    "number": _number,
    "integer": _integer,
    "boolean": lambda *_: st.booleans(),
    "null": lambda *_: st.none(),
    "array": _list,
    "object": _object,
}


def places(value, path=()):
    """Give the path of every value inside a value, its own first."""
    yield path
    inside = value.items() if isinstance(value, dict) else ()
    inside = enumerate(value) if isinstance(value, list) else inside
    for name, child in inside:
        yield from places(child, (*path, name))


@st.composite
def spoiled(pick, value):
    """Draw a copy of a value with one field gone, changed, or more than there was."""
    found = copy.deepcopy(value)
    path = pick(st.sampled_from([place for place in places(found) if place]))
    holder = found
    for name in path[:-1]:
        holder = holder[name]
    what = pick(st.sampled_from(["gone", "changed", "more"]))
    if what == "gone":
        del holder[path[-1]]
    elif what == "more" and isinstance(holder, dict):
        holder["surplus"] = pick(ANYTHING)
    else:
        holder[path[-1]] = pick(ANYTHING)
    return found
