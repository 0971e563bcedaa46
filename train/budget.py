"""Wall time that a stage may take, over all its restarts."""

import time

# A step that took longer stood still: the process was paused, or the machine.
LONGEST_STEP = 15.0


class Budget:
    def __init__(self, minutes: float, spent: float):
        """`spent` — seconds of earlier runs."""
        self.seconds, self.spent, self.last = minutes * 60, spent, time.time()

    def tick(self) -> float:
        """Counts the step since the last call; the share of the budget that is spent, 0…1."""
        now = time.time()
        self.spent += min(now - self.last, LONGEST_STEP)
        self.last = now
        return self.spent / self.seconds

    @property
    def minutes_left(self) -> float:
        return (self.seconds - self.spent) / 60
