KEEP: dict[str, int]

class Slots:
    def __init__(self, keep: int) -> None: ...
