"""What a manifest declares beside single calls: pages, batches, lookups, maps and thin events."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from connectors.engine.findings import Say

if TYPE_CHECKING:
    from connectors.engine.connector import Envelope, ErrorRule

PAGE_KINDS = ("number", "offset", "token", "link", "last_id")


@dataclass(frozen=True, slots=True)
class Pages:
    """How a list that comes in pages is read to its end."""

    kind: str  # one of PAGE_KINDS
    items: str  # the field of the output that the pages are joined in
    size: int  # how many a page holds; fewer end a list told by number, offset or last id
    first: int  # the number of the first page
    next: str | None  # a template over an answer: what names the page after it
    link: str | None  # the parameter of a Link header's next address that names it
    more: str | None  # a template over an answer: whether there is more
    max_pages: int
    max_items: int
    cut: str | None  # the output's field that tells that the list was longer than the maxima


@dataclass(frozen=True, slots=True)
class Batch:
    """How one step does something for many items, in requests of a few each."""

    over: str  # the field of the input that holds the items
    max: int  # how many items one request takes
    results: str  # a template over an answer: the list of what became of each
    match_item: str | None  # a template over an item: what tells it apart; None: the order does
    match_result: str | None  # the same over a result
    envelope: "Envelope"  # read over one result, as `body`
    errors: "tuple[ErrorRule, ...]"
    result: Any  # a mapping over one result that gives the item's output; None: as it is
    output: Mapping[str, Any]  # the schema of one item's output


@dataclass(frozen=True, slots=True)
class Lookup:
    """A list of choices that an app has, such as its warehouses."""

    key: str
    title: Say
    action: str  # a reading action
    given: Any  # a mapping over input and search that gives the action's input
    input: Mapping[str, Any]  # schema of what the choices depend on
    items: str  # a template over the action's output (data) that gives a list
    value: str  # a template over one item
    label: str  # the same, for people
    cache_seconds: int
    searches: bool  # the app itself looks for what was typed
    confidence: str = "documented"
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Fetch:
    """What completes an event that carries little more than an id."""

    event: str  # the type of the complete event
    version: int
    action: str | None  # a reading action; None: a map alone makes the event
    given: Any  # a mapping over the thin event that gives the action's input
    data: Any  # a mapping over event and data (what was read) that gives the complete data
    subject: str | None  # a template over event and data
    when: str | None  # a template over the thin event: whether it is completed at all
    schema: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class ReadyMap:
    """A mapping that somebody wrote once for all: to or from one of the hub's own events."""

    key: str
    title: Say
    trigger: str | None  # whose data it reads
    event: str  # the hub's event type that it gives or reads
    version: int
    action: str | None  # whose input it gives
    emits: bool  # of a trigger: the hub's event is made beside the app's own
    when: str | None  # a template over what it reads: whether it holds
    rules: Any  # the mapping document
    confidence: str = "documented"
    source: str | None = None
