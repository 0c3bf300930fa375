"""spec.upgradePolicy: when replicas are replaced that the spec asks no change of."""

from typing import Annotated, Literal

from pydantic import Field

from llmservice_operator.schema.references import Int32
from llmservice_operator.schema.rules import Rule, Structure

Schedule = Annotated[str, Field(max_length=128, pattern=r"^[0-9*,/A-Za-z-]+( [0-9*,/A-Za-z-]+){4}$")]
TimeZone = Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$")]


class Window(Structure):
    """A time that comes again and again."""

    schedule: Schedule = Field(
        description="When the window opens: minute, hour, day of month, month and day of week, as for a CronJob. "
        "Example: 0 2 * * SAT.",
    )
    time_zone: TimeZone = Field(
        "Etc/UTC",
        description="Name of the time zone of the schedule in the IANA database. Default: Etc/UTC. Example: "
        "Europe/Berlin.",
    )
    duration_seconds: Annotated[Int32, Field(ge=900, le=604800)] = Field(
        14400,
        description="Seconds for which the window stays open. A rollout that began in it is finished after it. "
        "Default: 14400. Example: 3600.",
    )


class UpgradePolicy(Structure):
    """When replicas are replaced that the spec asks no change of: another version of the operator, or a changed
    profile, would make them differently."""

    rules = (
        Rule(
            # The schema's own default is checked too, and is {}.
            "(has(self.mode) && self.mode == 'Window') == has(self.window)",
            "mode Window needs upgradePolicy.window, and only it takes one",
            holds=lambda self: (self.mode == "Window") == (self.window is not None),
            field_path=".window",
        ),
    )

    mode: Literal["Manual", "Window", "Auto"] = Field(
        "Manual",
        description="Manual leaves the replicas as they are: the condition UpdatePending lists the fields that would "
        "change, until the annotation llmservice.dev/apply-update gets a new value or the spec changes. Window "
        "replaces them while the window is open, Auto at once. Default: Manual. Example: Auto.",
    )
    window: Window | None = Field(
        None,
        description="With mode Window: when replicas may be replaced. Default: none. Example: {schedule: 0 2 * * SAT, "
        "timeZone: Europe/Berlin}.",
    )
