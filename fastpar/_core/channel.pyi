from collections.abc import Sequence

MAX_BODY: int
MAX_FDS: int
Message = tuple[int, tuple[int, ...], bytes, list[int]]

def make_pair() -> tuple[Channel, Channel]: ...

class Channel:
    fd: int
    def __init__(self, fd: int) -> None: ...
    def close(self) -> None: ...
    def send(
        self,
        kind: int,
        numbers: Sequence[int] = ...,
        body: bytes = ...,
        fds: Sequence[int] = ...,
        may_wait: bool = ...,
    ) -> bool: ...
    def receive(self, *, may_wait: bool = ...) -> Message | None: ...
    def be_patient(self, timeout_ns: int) -> None: ...
