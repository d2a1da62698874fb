"""How long a server is waited for, and how often it is asked."""

from local.processes import AT_WORK_SECONDS, Patience


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_what_says_nothing_is_given_up_when_its_time_is_over() -> None:
    clock = Clock()
    patience = Patience(120, clock)
    clock.now += 119
    assert patience.pause(0.05, at_work=False) == 0.05
    assert not patience.is_over
    clock.now += 1
    assert patience.is_over


def test_what_is_at_work_gets_an_hour_and_is_asked_more_seldom() -> None:
    clock = Clock()
    patience = Patience(120, clock)
    pauses = []
    while not patience.is_over:
        pauses.append(patience.pause(0.05, at_work=True))
        clock.now += pauses[-1]
    assert AT_WORK_SECONDS <= patience.waited <= AT_WORK_SECONDS + 1
    assert (pauses[0], pauses[-1]) == (0.05, 1.0)
    assert pauses == sorted(pauses)


def test_after_its_work_it_has_its_time_again() -> None:
    clock = Clock()
    patience = Patience(120, clock)
    clock.now += 500
    patience.pause(0.05, at_work=True)
    clock.now += 119
    assert not patience.is_over
    clock.now += 1
    assert patience.is_over
