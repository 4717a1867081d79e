"""Connections are shared out over the web processes, whoever wakes first."""

import asyncio
import os
import socket
import time
from collections import Counter

import pytest

from marketplace import balance
from marketplace.balance import SLOTS, Board, Listener, Seat


def test_the_board_knows_who_holds_fewest():
    board = Board()
    assert board.fewest() == 0
    board.write(1, 11, 5)
    board.write(2, 12, 3)
    assert board.fewest() == 3
    board.write(2, 0, 0)
    assert board.fewest() == 5, "who is gone counts no more"
    board.write(2 + SLOTS, 13, 1)
    assert board.fewest() == 1, "slots are used again"


class Socket:
    asked = 0

    def accept(self):
        self.asked += 1
        return "connection"


def test_who_holds_more_waits_and_takes_it_in_the_end(monkeypatch):
    waits = []
    monkeypatch.setattr(balance.time, "sleep", waits.append)
    board, plain = Board(), Socket()
    seat = Seat(board, 1)
    board.write(2, 99, 0)
    Listener(plain, seat).accept()
    assert waits == []
    seat.hold(2)
    assert Listener(plain, seat).accept() == "connection"
    assert waits == [balance.YIELD_SECONDS] * balance.YIELDS, "the other may be busy, or gone"
    assert plain.asked == 2


def _serve(listener, board, slot):
    """A child that tells every connection who took it."""
    seat = Seat(board, slot)
    open_connections = []  # kept, as a busy sender keeps them

    async def run():
        async def took(_reader, writer):
            open_connections.append(writer)
            seat.hold(1)
            writer.write(f"{os.getpid()}\n".encode())
            await writer.drain()

        await asyncio.start_server(took, sock=Listener(listener, seat), backlog=1)
        await asyncio.sleep(20)

    asyncio.run(run())


@pytest.mark.parametrize("gap_seconds", [0.003, 0.02])
def test_connections_opened_in_a_row_are_shared(gap_seconds):
    board, listener = Board(), socket.create_server(("127.0.0.1", 0), backlog=64)
    children = []
    try:
        for slot in (1, 2):
            child = os.fork()
            if not child:
                _serve(listener, board, slot)
                os._exit(0)
            children.append(child)
        time.sleep(0.5)  # until both listen
        kept, takers = [], Counter()
        for _ in range(20):
            kept.append(socket.create_connection(listener.getsockname(), timeout=10))
            time.sleep(gap_seconds)
        for one in kept:
            takers[int(one.makefile().readline())] += 1
        assert set(takers) == set(children)
        assert max(takers.values()) <= 13, takers
    finally:
        for child in children:
            os.kill(child, 9)
            os.waitpid(child, 0)
        listener.close()
