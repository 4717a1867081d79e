"""Looking: what one turn of a reconciliation learns, in memory until it is recorded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from connectors.engine import reconcile
from connectors.engine.connector import Reconcile
from connectors.engine.findings import Say, say
from connectors.engine.reconcile import Listed
from connectors.tables import Reconciliation

# Lists come in any order and clocks differ: what is this close to the last look is looked at again.
OVERLAP = timedelta(minutes=10)
# An app may list a thing a little after it happened; the next look starts before this one began.
LAG = timedelta(minutes=2)
MAX_SKEW = timedelta(days=1)
MOST_DRIFT = timedelta(minutes=1)
KEPT = timedelta(days=7)  # how long a loss is named
MAX_PAGES = 500
MAX_OPEN = 500
MAX_LOST = 200
# Waits after asking for a delivery the first, second, third time; then it counts as lost.
ASK_WAITS = (timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=30))

TOO_OLD = say(
    "对方应用已不再保留它，无法重发", "The app keeps it no longer and cannot send it again"
)
UNANSWERED = say("已请求重发三次，仍没有送达", "It was asked for three times and did not come")
NO_ID = say("它没有可用来区分的编号", "It has no id to tell it apart by")
ENDLESS = say("对方应用的列表没有尽头", "The app's list has no end")


@dataclass
class Looking:
    """A reconciliation under a worker's hands."""

    plan: Reconcile
    now: datetime
    cursor: datetime
    skew: timedelta
    progress: dict[str, Any] | None
    missing: list[dict[str, Any]]
    token: str | None = None  # where the next look begins, in the app's own words
    found: int = 0
    asked: int = 0
    fetched: int = 0
    failed: int = 0
    is_done: bool = False  # a look came to its end in this turn
    is_cut: bool = False  # … before the end of the list: the rest is looked at soon
    problem: Mapping[str, Any] | None = None
    after_seconds: int | None = None  # when the app said to come again
    is_final: bool = False  # the problem will not go away by trying again soon

    @classmethod
    def at(cls, row: Reconciliation, plan: Reconcile, now: datetime) -> "Looking":
        """Take up where the row stands."""
        return cls(
            plan=plan,
            now=now,
            cursor=row.cursor,
            skew=timedelta(seconds=row.skew_seconds),
            progress=dict(row.progress) if row.progress else None,
            missing=[dict(entry) for entry in row.missing],
            token=row.token,
        )

    # a look, page by page

    def begin(self) -> None:
        """Start a look at everything since the last one."""
        # clocks may have been set back meanwhile
        since = min(self.cursor, self.now) - self._overlap()
        oldest = self.now - timedelta(hours=self.plan.keeps_hours)
        since, until = max(since, oldest), self.now
        every = self.plan.every
        if every and every.window_seconds:
            until = min(until, since + timedelta(seconds=every.window_seconds))
        self.progress = {
            "began_at": self.now.isoformat(),
            "reaches": until.isoformat(),
            "since": (since + self._behind()).isoformat(),  # by the app's clock
            "until": (until + self.skew).isoformat(),  # by the app's clock
            "token": self.token,
            "behind_seconds": int(self._behind().total_seconds()),
            "page": None,
            "pages": 0,
            "found": 0,
            "fetched": 0,
            "failed": 0,
        }

    @property
    def since(self) -> datetime:
        """Return since when the list is read, by the app's clock."""
        assert self.progress is not None
        return datetime.fromisoformat(self.progress["since"])

    def asked_with(self) -> dict[str, Any]:
        """Return what the request for the next page may read."""
        assert self.progress is not None
        told = {"since": reconcile.written(self.since), "page": self.progress["page"]}
        if self.plan.every:
            # a look that was under way when this edition was installed knows of neither
            until = datetime.fromisoformat(self.progress.get("until", self.now.isoformat()))
            told |= {"until": reconcile.written(until), "token": self.progress.get("token")}
        return told

    def _overlap(self) -> timedelta:
        return timedelta(seconds=self.plan.every.overlap_seconds) if self.plan.every else OVERLAP

    def hear_clock(self, headers: Mapping[str, str], now: datetime) -> None:
        """Learn from an answer how far the app's clock is from ours."""
        told = reconcile.clock_of(headers)
        if told is not None and abs(told - now) < MAX_SKEW:
            # whole seconds are all that a Date header tells, and an answer takes its time
            self.skew = timedelta(seconds=round((told - now).total_seconds()))

    def _behind(self) -> timedelta:
        """Return how far the app's clock is behind ours, below zero.

        One that is ahead is not made up for: that costs a longer list, and if the clock of its
        answers is not that of its data, nothing is left out.
        """
        return min(self.skew, timedelta(0))

    def begin_again(self) -> bool:
        """Begin anew when a first page was asked for before the app's clock was known to be late.

        Only once: clocks of several servers may differ.
        """
        assert self.progress is not None
        used = timedelta(seconds=self.progress["behind_seconds"])
        is_early = used - self._behind() > MOST_DRIFT
        if self.progress["pages"] or self.progress.get("is_second") or not is_early:
            return False
        self.begin()
        self.progress["is_second"] = True
        return True

    def hear_token(self, token: str | None) -> None:
        """Keep what the app says the next look begins with; it holds once this one is done."""
        assert self.progress is not None
        if token is not None:
            self.progress["token"] = token

    def turn_page(self, following: str | None, *, is_enough: bool) -> None:
        """Go on to the next page, or end the look."""
        assert self.progress is not None
        if following is None or is_enough:
            self._finish()
            return
        if self.progress["pages"] + 1 >= MAX_PAGES or following == self.progress["page"]:
            self.stop(ENDLESS, "config")
            return
        self.progress["page"], self.progress["pages"] = following, self.progress["pages"] + 1

    def _finish(self) -> None:
        assert self.progress is not None
        reached = datetime.fromisoformat(self.progress["began_at"]) - LAG
        if "reaches" in self.progress:
            reaches = datetime.fromisoformat(self.progress["reaches"])
            self.is_cut = reaches < reached  # the next stretch of time is asked for soon
            reached = min(reached, reaches)
        if len(self.open()) >= MAX_OPEN:
            self.is_cut = True  # more may be missing than is kept in mind
        else:
            self.cursor = max(self.cursor, reached)
            self.token = self.progress.get("token")
        self.is_done = True

    def stop(self, words: Say, cause: str, detail: str = "") -> None:
        """Give a look up with a problem that a person must see."""
        self.problem = {"cause": cause, "say": dict(words), "detail": detail or None}
        self.is_final = True

    def count(self, **more: int) -> None:
        """Count what was found, fetched or given up, for this look and for all time."""
        for name, number in more.items():
            setattr(self, name, getattr(self, name) + number)
            if self.progress is not None and name in self.progress:
                self.progress[name] += number

    # what is missing

    def open(self) -> list[dict[str, Any]]:
        """Return what is missing and not given up."""
        return [entry for entry in self.missing if entry["state"] != "lost"]

    def miss(self, key: str, one: Listed) -> None:
        """Note a delivery that failed and whose event is not here."""
        if any(entry["key"] == key for entry in self.missing):
            return
        entry = {
            "key": key,
            "id": one.id,
            "type": one.type,
            "at": one.at.isoformat(),
            "state": "open",
            "asks": 0,
            "next_at": self.now.isoformat(),
            "why": say(one.detail, one.detail) if one.detail else None,
        }
        self.missing.append(entry)
        self.count(found=1)

    def give_up_item(self, key: str, words: Say, kind: str = "", at: str = "") -> None:
        """Note a listed thing that cannot be taken in; said once however often it is listed."""
        if any(entry["key"] == key for entry in self.missing):
            return
        self.missing.append(
            {
                "key": key, "id": None, "type": kind, "at": at or self.now.isoformat(),
                "state": "lost", "asks": 0, "next_at": None, "why": dict(words),
            }
        )  # fmt: skip
        self.count(found=1, failed=1)

    def settle(self, here: set[str]) -> None:
        """Forget what has come meanwhile."""
        came = [entry for entry in self.missing if entry["key"] in here]
        self.missing = [entry for entry in self.missing if entry["key"] not in here]
        self.count(fetched=len(came))
        # one that was given up and came after all is no loss
        self.count(failed=-sum(1 for entry in came if entry["state"] == "lost"))

    def due(self) -> list[dict[str, Any]]:
        """Return what is to be asked for now, oldest first, and give up what cannot come."""
        oldest = self.now + self._behind() - timedelta(hours=self.plan.keeps_hours)
        for entry in self.open():
            if datetime.fromisoformat(entry["next_at"]) > self.now:
                continue
            if datetime.fromisoformat(entry["at"]) < oldest:
                self.lose(entry, TOO_OLD)
            elif entry["asks"] >= len(ASK_WAITS):
                self.lose(entry, UNANSWERED)
        ready = [e for e in self.open() if datetime.fromisoformat(e["next_at"]) <= self.now]
        return sorted(ready, key=lambda entry: str(entry["at"]))

    def note_asked(self, entry: dict[str, Any]) -> None:
        """Note that the app was asked to send it again."""
        wait = ASK_WAITS[min(entry["asks"], len(ASK_WAITS) - 1)]
        entry["asks"] += 1
        entry["state"], entry["next_at"] = "asked", (self.now + wait).isoformat()
        self.count(asked=1)

    def lose(self, entry: dict[str, Any], words: Say) -> None:
        """Give a missing event up, and say why."""
        entry["state"], entry["next_at"], entry["why"] = "lost", None, dict(words)
        self.count(failed=1)

    def kept_missing(self) -> list[dict[str, Any]]:
        """Return what to keep in mind, bounded, the oldest first."""
        lost = [
            entry
            for entry in self.missing
            if entry["state"] == "lost" and datetime.fromisoformat(entry["at"]) > self.now - KEPT
        ][-MAX_LOST:]
        return sorted(self.open() + lost, key=lambda entry: str(entry["at"]))

    def next_ask(self) -> datetime | None:
        """Return when the next missing event is to be asked for, None when none is."""
        times: Sequence[str] = [entry["next_at"] for entry in self.open()]
        return min(map(datetime.fromisoformat, times)) if times else None
