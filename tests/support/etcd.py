"""What an administrator does to the etcd of a control plane with etcdctl, over its JSON gateway."""

import base64
from typing import Any

import httpx

from tests.support.controlplane import ControlPlane

_ANY_KEY = base64.b64encode(b"\0").decode()


def compact(plane: ControlPlane) -> None:
    """Forget every revision but the present one, on disk too."""
    revision = _ask(plane, "kv/range", {"key": _ANY_KEY, "range_end": _ANY_KEY, "limit": 1})["header"]["revision"]
    _ask(plane, "kv/compaction", {"revision": revision, "physical": True})


def make_room(plane: ControlPlane) -> None:
    """Give back the space of what is deleted, and end the alarm that there was none."""
    compact(plane)
    _ask(plane, "maintenance/defragment", {})
    for alarm in alarms(plane):
        _ask(plane, "maintenance/alarm", {**alarm, "action": "DEACTIVATE"})


def alarms(plane: ControlPlane) -> list[dict[str, Any]]:
    """Return the alarms that are on, each with its member."""
    return list(_ask(plane, "maintenance/alarm", {"action": "GET"}).get("alarms", ()))


def _ask(plane: ControlPlane, what: str, body: dict[str, Any]) -> dict[str, Any]:
    url = f"http://127.0.0.1:{plane.network.etcd_port}/v3/{what}"
    with httpx.Client(trust_env=False, timeout=20) as http:
        return dict(http.post(url, json=body).raise_for_status().json())
