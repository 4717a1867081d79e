"""One run in memory: where it stands, what it knows, and what shall be recorded of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from connectors import error_paths, laps
from connectors.flow_documents import ENDS, ENDS_BADLY, Planned, Recipe
from connectors.pauses import REFUSED
from kernel import clock, ids

Say = Mapping[str, str]


@dataclass(slots=True)
class Note:
    """A step's row while it is being worked on; `is_new` tells an insert from an update."""

    id: str
    position: int
    key: str
    kind: str
    state: str = "waiting"
    attempt_count: int = 0
    input: Any = None
    output: Any = None
    problem: dict[str, Any] | None = None
    edited_input: Any = None
    effect_key: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    elapsed_ms: int | None = None
    status: int | None = None
    keeps_key: bool = False  # taken over unfinished from another run, with its effect key
    is_new: bool = True
    is_changed: bool = True

    def close(self, state: str, output: Any) -> None:
        """Write down how the step went and what came out."""
        self.state, self.output, self.problem = state, output, None
        self.finished_at = clock.now()


@dataclass(slots=True)
class Deed:
    """Something of a step that happens in the commit which records it, or not at all.

    `given` says what; `found` is what came of it, for the step to go on with.
    """

    kind: str
    note: Note
    given: dict[str, Any]
    found: Any = None


@dataclass(frozen=True, slots=True)
class Kin:
    """The run that called this one, at which of its positions, and what it handed over."""

    parent_id: str | None = None
    parent_position: int | None = None
    depth: int = 0  # how many runs are above it
    environment: str = "live"


_ALONE = Kin()


@dataclass(slots=True)
class Moving:
    """A claimed run: where it stands, what it knows, and what shall be recorded of it."""

    organization_id: str
    id: str
    flow_id: str
    event_id: str
    replay_nonce: str
    effect_nonce: str
    lease_epoch: int
    recipe: Recipe
    activation: dict[str, Any]
    position: int = 0
    attempt_count: int = 0
    notes: dict[int, Note] = field(default_factory=dict)
    # leased (goes on) | due (given back) | waiting | succeeded | skipped | parked
    state: str = "leased"
    cause: str | None = None
    say: Say | None = None
    detail: str | None = None
    wait_seconds: float = 0
    crash_count: int = 0
    order_key: str | None = None  # the lane of its flow that it goes in, when that has an order
    loops: list[laps.Loop] = field(default_factory=list)  # those it is in, the outermost first
    lap_count: int = 0  # items of all loops so far
    asks: list[dict[str, Any]] = field(default_factory=list)  # new approvals, as rows
    deeds: list["Deed"] = field(default_factory=list)  # what the store does in the next commit
    seen: dict[int, Any] = field(default_factory=dict)  # what it waits for, as it was taken up
    refused: list[tuple[str, Say, str | None]] = field(default_factory=list)  # connections
    went_wrong: bool = False  # it went an error path
    rests_anew: bool = False  # it has come to rest at a step that it was not at rest at before
    kin: Kin = field(default_factory=lambda: _ALONE)
    result: dict[str, Any] | None = None  # what a called flow gives back: {output} or {problem}
    until: float | None = None  # when it lets others go first, in time.monotonic()
    is_restoring: bool = False

    @property
    def lane(self) -> str:
        """Return where the next call goes."""
        return self.recipe.lane_at(self.position, self.flow_id)

    @property
    def step(self) -> Planned:
        """Return the step the run stands at."""
        return self.recipe.step_at(self.position)

    @property
    def is_over(self) -> bool:
        """Tell whether it stands behind its last step."""
        return self.position == len(self.recipe.steps)

    def note(self) -> Note:
        """Return the present step's note, made when the step is met for the first time."""
        step = self.step
        note = self.notes.get(self.position)
        if note is None:
            note = Note(ids.new_id("stp"), self.position, step.key, step.kind)
            self.notes[self.position] = note
        note.is_changed = True
        if note.started_at is None:
            note.started_at = clock.now()
        return note

    def go_on(self) -> None:
        """Stand at what follows the present step."""
        self.go_to(self.step.follows)

    def go_to(self, target: int) -> None:
        """Stand at a step of the same item; at the loop around it the item is done."""
        inside = self.step.inside
        if target == ENDS:
            self.end_here("refused", REFUSED)
        elif target == ENDS_BADLY:
            self.end_here(error_paths.CAUSE, error_paths.ENDED)
        elif inside is None:
            self.position = target
        elif target == inside:
            laps.end_item(self, "done")
        else:
            laps.stand(self, target)

    def end_here(self, cause: str, say: Say) -> None:
        """Do nothing more for this item of the loop around the present step, or for the event."""
        if self.step.inside is None:
            self.finish("skipped", cause, say)
        else:
            laps.end_item(self, "skipped")

    def wait(self, cause: str, say: Say, seconds: float) -> None:
        """Rest at the present step for some time, without a lease."""
        self.state, self.cause, self.say, self.detail = "waiting", cause, say, None
        self.wait_seconds = max(0.0, seconds)
        self.attempt_count = self.crash_count = 0

    def hold(self, cause: str, say: Say, seconds: float) -> None:
        """Rest before a call that was not made; it is no attempt, and none made before is lost."""
        self.state, self.cause, self.say, self.detail = "waiting", cause, say, None
        self.wait_seconds = max(0.0, seconds)
        note = self.note()
        note.state = "waiting"

    def finish(self, state: str, cause: str | None = None, say: Say | None = None) -> None:
        """Bring the run to an end."""
        if self.went_wrong and cause is None:
            cause, say = error_paths.CAUSE, error_paths.WENT_ON
        self.state, self.cause, self.say, self.detail = state, cause, say, None

    def give_back(self) -> None:
        """Return the run unchanged: its call was not made."""
        self.state, self.wait_seconds = "due", 0
        note = self.note()
        if note.state == "sending":
            note.state = "waiting"

    def park(self, cause: str, say: Say, detail: str | None = None) -> None:
        """Stop at the present step until a person has acted, unless the flow says what to do.

        That is an error path, or a loop that goes on without the item.
        """
        note = self._fail(cause, say, detail)
        if self.step.caught_by and error_paths.take(self, note):
            if cause == "auth" and note.kind == "action":
                connection = self.recipe.step_at(note.position).connection
                self.refused.append((connection or "", say, detail))
            if note.kind == "call":
                self.deeds.append(Deed("uncall", note, {}))
            return
        if self.loops and laps.goes_on_without(self, cause, say):
            return
        self._rest(cause, say, detail)

    def stop(self, cause: str, say: Say, detail: str | None = None) -> None:
        """Stop at the present step, whatever the flow says: it cannot be read where the run is."""
        self._fail(cause, say, detail)
        self._rest(cause, say, detail)

    def _fail(self, cause: str, say: Say, detail: str | None) -> Note:
        note = self.note()
        note.state, note.finished_at = "failed", clock.now()
        is_decided = bool((note.problem or {}).get(error_paths.DECIDED))
        note.problem = {"cause": cause, "say": dict(say), "detail": detail}
        if is_decided:  # a person has sent it down the error path
            note.problem[error_paths.DECIDED] = True
        return note

    def _rest(self, cause: str, say: Say, detail: str | None) -> None:
        self.state, self.cause, self.say, self.detail = "parked", cause, say, detail

    def deed(self, kind: str, note: Note, given: dict[str, Any]) -> Deed:
        """Return something of a step that is done in the commit which records it."""
        return Deed(kind, note, given)

    @property
    def pending(self) -> bool:
        """Tell whether something has to be written down before it goes on."""
        return any(deed.found is None for deed in self.deeds)
