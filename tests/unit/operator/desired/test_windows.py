"""A window opens by its schedule, in its time zone, for its duration."""

from datetime import UTC, datetime, timedelta

import pytest

from llmservice_operator.desired.configuration import problems
from llmservice_operator.desired.windows import fault, until_open
from llmservice_operator.schema.upgrade_policy import Window
from tests.support.builders import make_llmservice, make_settings


def window(schedule: str, zone: str = "Etc/UTC", seconds: int = 7200) -> Window:
    return Window(schedule=schedule, time_zone=zone, duration_seconds=seconds)


@pytest.mark.parametrize(
    ("found", "now", "wait"),
    [
        # 2026-01-03 is a Saturday.
        pytest.param(window("0 2 * * SAT"), datetime(2026, 1, 3, 1, 59, 30), timedelta(seconds=30), id="soon"),
        pytest.param(window("0 2 * * SAT"), datetime(2026, 1, 3, 2), timedelta(), id="as it opens"),
        pytest.param(window("0 2 * * SAT"), datetime(2026, 1, 3, 3, 59, 59), timedelta(), id="its last second"),
        pytest.param(window("0 2 * * SAT"), datetime(2026, 1, 3, 4), timedelta(days=6, hours=22), id="as it closes"),
        pytest.param(window("0 2 * * 6"), datetime(2026, 1, 2, 2), timedelta(days=1), id="a day by number"),
        pytest.param(window("0 2 * * *", "Asia/Tokyo"), datetime(2026, 1, 2, 17), timedelta(), id="in its time zone"),
        pytest.param(window("*/15 * * * *", seconds=900), datetime(2026, 1, 2, 3, 7), timedelta(), id="always"),
        # Europe/Berlin has no 2:30 on 2026-03-29.
        pytest.param(
            window("30 2 * * *", "Europe/Berlin", 900), datetime(2026, 3, 29, 1, 5), timedelta(), id="clocks go forward"
        ),
    ],
)
def test_how_long_it_is_until_a_window_is_open(found: Window, now: datetime, wait: timedelta) -> None:
    assert until_open(found, now.replace(tzinfo=UTC)) == wait


# C54
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        pytest.param(window("0 2 31 2 *"), "schedule: '0 2 31 2 *' is no schedule", id="a day that never comes"),
        pytest.param(window("61 2 * * *"), "schedule: '61 2 * * *' is no schedule (Bad minute)", id="minute 61"),
        pytest.param(window("0 5-2 * * *"), "schedule: ", id="backwards"),
        pytest.param(window("0 2 * * FUN"), "schedule: ", id="no day"),
        pytest.param(window("0 2 * * *", "Europe/Atlantis"), "timeZone: there is no time zone", id="no zone"),
        pytest.param(window("0 2 * * *", "Europe"), "timeZone: there is no time zone", id="a folder of zones"),
    ],
)
def test_what_only_the_operator_can_see_is_told_and_never_opens(wrong: Window, words: str) -> None:
    assert fault(wrong).startswith(f"Change spec.upgradePolicy.window.{words}")
    assert until_open(wrong, datetime(2026, 1, 2, tzinfo=UTC)) is None
    policy = {"mode": "Window", "window": wrong.model_dump(by_alias=True)}
    (problem,) = problems(make_llmservice(upgradePolicy=policy), make_settings())
    assert (problem.reason, problem.message) == ("ScheduleInvalid", fault(wrong))
