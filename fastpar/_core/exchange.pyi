from collections.abc import Sequence
from typing import Any

from fastpar._core.channel import Channel
from fastpar._core.dispatch import Run
from fastpar._core.remote import Seat
from fastpar._core.segments import Board

class Peer:
    channel: Channel
    board: Board
    seats: list[Seat]
    outbox: list[tuple[Any, ...]]
    functions: set[int]
    n_forgotten: int
    def __init__(self, channel: Channel, board: Board) -> None: ...
    def send(self, kind: int, numbers: Sequence[int] = ..., body: bytes = ..., fds: Sequence[int] = ...) -> None: ...
    def flush(self) -> None: ...
    def hold(self, seat: Seat) -> None: ...
    def seat_of(self, number: int) -> Seat | None: ...
    def take_back(self) -> list[Seat]: ...

class Exchange:
    run: Run
    peers: list[Any]
    everyday: tuple[Any, int] | None
    call: int
    n_false_starts: int
    def __init__(self, run: Run, call: int, gone: list[int], n_cpus: int) -> None: ...
    def attend(self, timeout_ns: int) -> bool: ...
    def feed(self, peer: Any, seat: Seat) -> None: ...
