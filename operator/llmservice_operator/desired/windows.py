"""When the window of spec.upgradePolicy is open."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from llmservice_operator.schema.upgrade_policy import Window


def until_open(window: Window, now: datetime) -> timedelta | None:
    """Return how long it is until the window is open, zero while it is; None if it never is.

    Across a change of the clocks a window opens as Debian's cron would start a job.
    """
    if fault(window):
        return None
    duration = timedelta(seconds=window.duration_seconds)
    zone = ZoneInfo(window.time_zone)
    start = next(CronSim(window.schedule, (now - duration).astimezone(zone)), None)
    return None if start is None else max(start - now, timedelta())


def fault(window: Window) -> str:
    """Return what is wrong with a window that the API server let pass; empty if nothing is."""
    try:
        ZoneInfo(window.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return f"Change spec.upgradePolicy.window.timeZone: there is no time zone {window.time_zone!r}"
    try:
        CronSim(window.schedule, datetime.min)
    except CronSimError as error:
        return f"Change spec.upgradePolicy.window.schedule: {window.schedule!r} is no schedule ({error})"
    return ""
