"""Keeps the translation catalogues: `python -m marketplace.messages extract|check|compile`.

English message ids stand in the code and the templates; each package has one Chinese catalogue,
`<package>/translations/zh_Hans_CN/LC_MESSAGES/messages.po`. English needs none.
"""

import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from babel.messages import Catalog, Message
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from marketplace.assets import HOUSE, PACKAGES

LOCALE = "zh_Hans_CN"
METHODS = [
    ("**.py", "python"),
    ("templates/**.html", "jinja2.ext:babel_extract"),
    ("templates/**.txt", "jinja2.ext:babel_extract"),
]
OPTIONS = {pattern: {"silent": "false", "encoding": "utf-8"} for pattern, _ in METHODS[1:]}
KEYWORDS = {**DEFAULT_KEYWORDS, "lazy_gettext": None, "lazy_ngettext": (1, 2)}
HEADER = f"""msgid ""
msgstr ""
"Language: {LOCALE}\\n"
"Content-Type: text/plain; charset=UTF-8\\n"
"Content-Transfer-Encoding: 8bit\\n"
"Plural-Forms: nplurals=1; plural=0;\\n"

"""
HAN = "[\u3007\u3400-\u9fff]"
STOPS = str.maketrans(",;:?!", "\uff0c\uff1b\uff1a\uff1f\uff01")
HALF_STOP = re.compile(rf"(?<=[\u201d\uff09\u300d{HAN[1:]})[,;:?!] ?|(?<=[\"\w])[,;:?!](?={HAN})")
HALF_BRACKETS = re.compile(rf"(?<!%)\(((?:[^()]|%\(\w+\)[a-z])*{HAN}(?:[^()]|%\(\w+\)[a-z])*)\)")
PLACE = re.compile(r"%\((\w+)\)[a-z]|%([sd])|\{(\w*)\}")


def catalogue_path(package: str, house: Path = HOUSE) -> Path:
    """Return where a package keeps its Chinese words."""
    return house / package / "translations" / LOCALE / "LC_MESSAGES" / "messages.po"


def extract(package: str, house: Path = HOUSE) -> Catalog:
    """Return what the package's code and templates say, untranslated, without places or dates."""
    found = Catalog(locale=LOCALE, fuzzy=False)
    rows = extract_from_dir(
        house / package, METHODS, OPTIONS, KEYWORDS, comment_tags=(), strip_comment_tags=False
    )
    for _file, _line, msgid, _comments, context in rows:
        found.add(msgid, context=context)
    return found


def read(package: str, house: Path = HOUSE) -> Catalog:
    """Return the package's catalogue; an absent file is an empty catalogue."""
    path = catalogue_path(package, house)
    if not path.exists():
        return Catalog(locale=LOCALE, fuzzy=False)
    with path.open("rb") as stream:
        return read_po(stream, locale=LOCALE)


def merge(said: Catalog, known: Catalog, elsewhere: Sequence[Catalog] = ()) -> Catalog:
    """Return exactly what is said, with the translations known here or in other packages."""
    merged = Catalog(locale=LOCALE, fuzzy=False)
    for message in _entries(said):
        olds = [c.get(message.id, context=message.context) for c in (known, *elsewhere)]
        fitting = [o for o in olds if o and o.pluralizable == message.pluralizable]
        kept = next((old for old in fitting if all(_strings(old))), None)
        flags = kept.flags & {"fuzzy"} if kept else set()
        string = _typeset_entry(kept) if kept else None
        merged.add(message.id, string, flags=flags, context=message.context)
    return merged


def render(catalogue: Catalog) -> str:
    """Return the .po text, sorted, with neither dates nor line numbers, to keep diffs small."""
    body = io.BytesIO()
    write_po(body, catalogue, width=98, no_location=True, omit_header=True, sort_output=True)
    return HEADER + body.getvalue().decode().strip() + "\n"


def typeset(text: str) -> str:
    """Return Chinese words with Chinese punctuation: full-width after Han and around it."""
    text = HALF_BRACKETS.sub("\uff08\\1\uff09", text)
    return HALF_STOP.sub(lambda stop: stop.group().strip().translate(STOPS), text)


def faults(package: str, house: Path = HOUSE) -> Iterator[str]:
    """Yield what is wrong with a package's catalogue, one sentence each."""
    said, known = extract(package, house), read(package, house)
    for message in _entries(said):
        old = known.get(message.id, context=message.context)
        if old is None or old.pluralizable != message.pluralizable:
            yield f"{package}: not in the catalogue: {_shown(message)}"
        else:
            yield from (f"{package}: {fault}: {_shown(message)}" for fault in _entry_faults(old))
    for message in _entries(known):
        if said.get(message.id, context=message.context) is None:
            yield f"{package}: said nowhere any more: {_shown(message)}"


def clashes(house: Path = HOUSE) -> Iterator[str]:
    """Yield message ids that two packages translate differently; at run time only one would win."""
    seen: dict[tuple[str, str | None], tuple[str, str]] = {}
    for package in PACKAGES:
        for message in _entries(read(package, house)):
            key, word = (_shown(message), message.context), str(message.string)
            first = seen.setdefault(key, (package, word))
            if message.string and first[1] != word:
                yield f"{first[0]} and {package} say two things for {key[0]}: {first[1]} / {word}"


def compile_catalogue(package: str, house: Path = HOUSE) -> None:
    """Write the .mo beside the .po, in one step, so that a running process never reads half."""
    source = catalogue_path(package, house)
    if not source.exists():
        return
    draft = source.with_suffix(".mo.draft")
    with draft.open("wb") as stream:
        write_mo(stream, read(package, house))
    draft.replace(source.with_suffix(".mo"))


def _entries(catalogue: Catalog) -> list[Message]:
    return [message for message in catalogue if message.id]


def _shown(message: Message) -> str:
    return repr(message.id if isinstance(message.id, str) else message.id[0])


def _strings(message: Message) -> list[str]:
    """Return the translated forms, at least one; untranslated ones are empty."""
    if message.string is None or isinstance(message.string, str):
        return [message.string or ""]
    return list(message.string) or [""]


def _typeset_entry(message: Message) -> str | tuple[str, ...]:
    texts = tuple(typeset(text) for text in _strings(message))
    return texts if message.pluralizable else texts[0]


def _places(text: str) -> set[str]:
    return {"".join(found) for found in PLACE.findall(text.replace("%%", ""))}


def _entry_faults(message: Message) -> Iterator[str]:
    strings = _strings(message)
    msgids = [message.id] if isinstance(message.id, str) else list(message.id)
    if not all(strings):
        yield "not translated"
        return
    if message.fuzzy:
        yield "marked fuzzy"
    allowed = set().union(*(_places(msgid) for msgid in msgids))
    for text in strings:
        # a singular may leave its number out, the Chinese may not: it has one form for all
        if _places(text) != allowed:
            yield f"its places {sorted(_places(text))} are not {sorted(allowed)}"
        if typeset(text) != text:
            yield "half-width punctuation among Chinese (`make messages` corrects it)"


@click.group()
def run() -> None:
    """Collect, check and compile the translations."""


@run.command("extract")
@click.argument("packages", nargs=-1)
def extract_command(packages: tuple[str, ...]) -> None:
    """Collect new texts, keep translations, drop what is said nowhere any more."""
    for package in packages or PACKAGES:
        others = [read(other) for other in PACKAGES if other != package]
        merged = merge(extract(package), read(package), others)
        path = catalogue_path(package)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render(merged), "utf-8")
        entries = _entries(merged)
        open_ones = sum(1 for message in entries if list(_entry_faults(message)))
        click.echo(f"{package}: {len(entries)} texts, {open_ones} to translate")


@run.command("check")
@click.argument("packages", nargs=-1)
def check_command(packages: tuple[str, ...]) -> None:
    """List what is missing, dead, fuzzy or does not fit; exit 1 when there is anything."""
    found = [fault for package in packages or PACKAGES for fault in faults(package)]
    found += clashes() if not packages else []
    for fault in found:
        click.echo(fault)
    if found:
        raise SystemExit(1)
    click.echo("Every text has its translation.")


@run.command("compile")
def compile_command() -> None:
    """Write the .mo files that the hub reads at start."""
    for package in PACKAGES:
        compile_catalogue(package)


if __name__ == "__main__":
    run()
