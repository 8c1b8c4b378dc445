"""How long rows take: measured on every run, so that nobody has to say what a model costs."""

FIRST_ROW_S = 20e-6  # a row's time before anything ran: ten times what a small network takes
FIRST_ROWS = 64  # how many rows that guess counts for
MEMORY = 0.875  # what a run leaves of the weight of those before it


class Pace:
    """Seconds a row of one model takes, over the last few runs and weighted by their rows.

    A run costs a fixed part and a part for each row; weighted by rows, the estimate is of rows that run together, which
    is how rows wait.
    """

    __slots__ = ("_rows", "_seconds", "row_s")

    def __init__(self) -> None:
        """Begin with a guess that is rather too slow: the first requests leave the event loop early."""
        self._rows = float(FIRST_ROWS)
        self._seconds = FIRST_ROWS * FIRST_ROW_S
        self.row_s = FIRST_ROW_S  # seconds a row, estimated

    def ran(self, rows: int, seconds: float) -> None:
        """Learn from one run."""
        if rows:
            self._rows = MEMORY * self._rows + rows
            self._seconds = MEMORY * self._seconds + seconds
            self.row_s = self._seconds / self._rows
