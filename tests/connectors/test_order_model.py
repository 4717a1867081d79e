"""Order lanes against a model: random schedules of everything that may happen to a run.

The model knows nothing of lanes: it looks at the rows after every deed, and asks that nothing of
one key is at work beside another, that nothing begins before what was known in front of it has
ended, and that nothing is left lying.
"""

import json
import random
from collections import defaultdict

import pytest
from factories.connectors import ORDER, Shop, publish_unchecked, rows
from factories.webhooks import make_event, routed_by

from connectors import claims, flows, loading, order_keys, order_lanes, recording, recovery, routing
from connectors.tables import Run
from kernel.database import EVERY, reading, transaction, write
from kernel.errors import Problem
from webhooks import events, fan_out
from webhooks.tables import Event

pytestmark = pytest.mark.usefixtures("database")
OPEN = ("due", "waiting", "leased", "parked")
ORDERS = (None, "flow", "subject", "${event.data.order_no}", "${event.data.region}")
WORDS = {"zh": "不行", "en": "no"}


@pytest.fixture(autouse=True)
def _flows_only(monkeypatch):
    monkeypatch.setattr(fan_out, "ROUTERS", [routing.plan])


class World:
    """A flow, some workers, and the model's books."""

    def __init__(self, seed: int, order_key: str | None) -> None:
        self.chance = random.Random(seed)
        with transaction(EVERY) as session:
            self.shop = Shop(session, "http://127.0.0.1:9", order_key=order_key)
        self.owner, self.flow = self.shop.organization_id, self.shop.flow
        self.order_key = order_key
        self.held: dict[str, list] = defaultdict(list)  # worker → the runs it has in its hands
        self.begun: set[str] = set()
        self.changed = False  # since the last look, so that "known in front" means something else
        self.workers = 0
        self.new: list[str] = []  # events that are not routed yet

    # --- deeds ---

    def worker(self) -> str:
        if self.held and self.chance.random() < 0.7:
            return self.chance.choice(sorted(self.held))
        self.workers += 1
        return f"wrk_{self.workers}"

    def arrive(self) -> None:
        with transaction(EVERY) as session:
            for _ in range(self.chance.randint(1, 4)):
                data = {**ORDER, "order_no": f"SO-{self.chance.randint(1, 3)}"}
                if self.chance.random() < 0.7:
                    data["region"] = self.chance.choice(["N", "S"])
                subject = self.chance.choice([None, "a", "b"])
                body = json.dumps(data).encode()
                make_event(session, self.owner, type="order.paid", subject=subject, body=body)

    def route(self) -> None:
        worker = self.worker()
        routed = routed_by(worker, room=self.chance.choice([0, 1, 400]))
        for follow_up in routed.follow_ups:
            self.held[worker] += loading.load_born(follow_up.args[1])

    def route_the_newest(self) -> None:
        """Another worker is at the older ones just now, or fails at them."""
        new = [one.id for one in rows(Event) if one.state == "new"]
        if not new:
            return
        from webhooks import ready

        def work(session):
            return fan_out.route(
                session, ready.take_one(session, (self.owner, new[-1])), fan_out.Routed("wrk_x")
            )

        routed = write(work)
        for follow_up in routed.follow_ups:
            self.held["wrk_x"] += loading.load_born(follow_up.args[1])

    def claim(self) -> None:
        worker = self.worker()
        self.held[worker] += loading.load(
            claims.claim(worker, limit=self.chance.choice([1, 3, 50]))
        )

    def record(self) -> None:
        worker = self.chance.choice(sorted(self.held) or ["wrk_0"])
        held = self.held[worker]
        self.chance.shuffle(held)
        some = [held.pop() for _ in range(min(len(held), self.chance.randint(1, 3)))]
        for moving in some:
            how = self.chance.choices(
                ["succeed", "park", "auth", "wait", "back", "skip"], [6, 1, 0.5, 1, 1, 1]
            )[0]
            if how == "park":
                moving.park("data", WORDS)
            elif how == "auth":
                moving.position = 1  # at the ERP
                moving.park("auth", WORDS)
            elif how == "wait":
                moving.state, moving.cause, moving.say = "waiting", "down", WORDS
                moving.attempt_count += 1
            elif how == "back":
                moving.state = "due"
            else:
                moving.finish("succeeded" if how == "succeed" else "skipped")
        takes = self.chance.random() < 0.5
        _, handed = recording.record_and_take(worker, some, takes=takes)
        self.held[worker] += loading.load(handed)

    def die(self) -> None:
        worker = self.chance.choice(sorted(self.held) or ["wrk_0"])
        write(lambda session: claims.release(session, worker))
        if self.chance.random() < 0.5:
            self.held.pop(worker, None)  # else it does not know that it is given up, and goes on

    def act(self) -> None:
        """An owner does something about some run."""
        unfinished = [run for run in rows(Run) if run.state in ("parked", "waiting")]
        if not unfinished:
            return
        run = self.chance.choice(unfinished)
        deed = self.chance.choice(
            [recovery.retry_now, recovery.cancel, recovery.replay_step, recovery.replay_start]
        )
        try:
            with transaction(self.owner) as session:
                deed(session, self.owner, run.id)
        except Problem:
            return
        self.changed = True

    def replay(self) -> None:
        routed = [one.id for one in rows(Event) if one.state == "routed"]
        if routed:
            with transaction(EVERY) as session:
                events.replay(session, self.owner, self.chance.choice(routed))

    def reconnect(self) -> None:
        from connectors import connections

        with transaction(self.owner) as session:
            connection = connections.find(session, self.owner, self.shop.erp)
            connections.make_ready(session, connection)

    def switch(self) -> None:
        """The flow is off for a while: what comes in then starts nothing, what runs goes on."""
        with transaction(EVERY) as session:
            flows.pause(session, self.owner, self.flow)
        for deed in (self.arrive, self.route, self.claim, self.record):
            deed()
            self.look()
        with transaction(EVERY) as session:
            flows.resume(session, self.owner, self.flow)

    def reorder(self) -> None:
        self.order_key = self.chance.choice(ORDERS)
        with transaction(EVERY) as session:
            order_lanes.lock(session, [(self.owner, self.flow)])
            flow = flows.find(session, self.owner, self.flow)
            before = flow.order_key
            document = flows.document_of(session, flow)
            flow.draft = {**document, "trigger": {"event": "order.paid"}}
            if self.order_key:
                flow.draft["trigger"]["order_key"] = self.order_key
            publish_unchecked(session, flow)
            order_lanes.follow(session, flow, before)
        self.changed = True

    # --- the model ---

    def look(self) -> None:
        found = rows(Run)
        seen = {one.id: one for one in rows(Event)}
        self.new = [one.id for one in seen.values() if one.state == "new"]
        lanes: dict[str, list[Run]] = defaultdict(list)
        for run in sorted(found, key=lambda run: (run.event_id, run.id)):
            if run.state in OPEN and (run.order_key is not None or run.state != "parked"):
                key = f"{self.order_key}/{self.value(seen[run.event_id])}"
                lanes[key if self.order_key else run.id].append(run)
        for key, lane in lanes.items():
            self.look_at(key, lane)
        self.begun |= {run.id for run in found if run.state == "leased"}
        self.changed = False

    def value(self, event: Event) -> str:
        return order_keys.value_of(self.order_key, event) if self.order_key else ""

    def look_at(self, key: str, lane: list[Run]) -> None:
        at_work = [run for run in lane if run.state == "leased"]
        fresh = [run for run in at_work if run.id not in self.begun]
        if not self.changed:
            # two that were at work already when they came to belong together come to their ends
            assert len(at_work) <= 1 or not fresh, f"{key}: {len(at_work)} at once"
        for run in fresh:
            before = lane[: lane.index(run)]
            assert not before, f"{key}: {run.id} passed {before[0].id}, {before[0].state}"
            if self.order_key:
                in_front = [one for one in self.new if one < run.event_id]
                assert not in_front, f"{key}: {run.id} passed {in_front[0]}, not routed yet"
        is_moving = any(run.state == "leased" or run.next_at is not None for run in lane)
        assert is_moving or lane[0].state == "parked", f"{key}: {lane[0].id} is left lying"

    def live(self, steps: int) -> None:
        deeds = [
            (self.arrive, 5), (self.route, 5), (self.route_the_newest, 1), (self.claim, 6),
            (self.record, 9), (self.die, 1), (self.act, 2), (self.replay, 0.7),
            (self.reconnect, 0.5), (self.switch, 0.3), (self.reorder, 0.5),
        ]  # fmt: skip
        for _ in range(steps):
            deed = self.chance.choices([one for one, _ in deeds], [w for _, w in deeds])[0]
            deed()
            self.look()

    def end(self) -> None:
        """Let everything come to its end: nobody dies any more, parked ones are skipped."""
        for worker in list(self.held):
            write(lambda session, worker=worker: claims.release(session, worker))
        self.held.clear()
        for _ in range(500):
            routed_by("wrk_end", room=0)
            held = loading.load(claims.claim("wrk_end"))
            for moving in held:
                moving.finish("succeeded")
            recording.record_and_take("wrk_end", held, takes=False)
            self.look()
            parked = [run.id for run in rows(Run) if run.state == "parked"]
            with transaction(self.owner) as session:
                for run_id in parked:
                    recovery.cancel(session, self.owner, run_id)
            if not held and not parked and not any(r.state in OPEN for r in rows(Run)):
                return
        left = [(run.id, run.state, run.next_at) for run in rows(Run) if run.state in OPEN]
        raise AssertionError(f"never ended: {left}")


def play(seed: int, order_key: str | None, steps: int = 80) -> World:
    world = World(seed, order_key)
    world.live(steps)
    world.end()
    with reading(EVERY) as session:
        assert not claims.is_any_due(session)
    return world


@pytest.mark.parametrize("seed", range(5))
def test_every_schedule_keeps_the_order_and_strands_nothing(seed):
    play(seed, ORDERS[seed % len(ORDERS)])
    assert len(rows(Run)) > 10


def _keep_no_line(session, pairs):
    return order_lanes.LinedUp()


def _pass_new_ones(monkeypatch):
    from sqlalchemy import text

    monkeypatch.setattr(claims, "_IS_FREE", text("1 = 1"))


BREAKS = {
    "all of a batch at once": lambda m: m.setattr(order_lanes, "line_up", _keep_no_line),
    "nobody lets the next go": lambda m: m.setattr(order_lanes, "settle", lambda *_: []),
    "events in front are not waited for": _pass_new_ones,
    "another order leaves all where it is": lambda m: m.setattr(
        order_lanes, "follow", lambda *_: True
    ),
}


@pytest.mark.parametrize("broken", sorted(BREAKS))
def test_a_break_would_be_noticed(monkeypatch, broken):
    BREAKS[broken](monkeypatch)
    with pytest.raises(AssertionError):
        for seed in range(12):
            play(seed, "flow", steps=50)
