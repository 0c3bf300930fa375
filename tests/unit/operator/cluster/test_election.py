"""One Lease, several replicas: never two that may write, and a new one soon after the old one is gone."""

import asyncio
import copy
from datetime import timedelta
from typing import Any

from llmservice_operator.cluster import errors
from llmservice_operator.cluster.election import LEASE_SECONDS, RENEW_DEADLINE_SECONDS, Election
from llmservice_operator.cluster.resources import Resource
from tests.support.wall_clock import wall_clock

Manifest = dict[str, Any]


class FakeLeases:
    """Leases with the API server's optimistic lock, for one Lease."""

    def __init__(self) -> None:
        self.lease: Manifest | None = None
        self.error: Exception | None = None
        """What every request raises while it is set."""
        self.loses_answers = False
        """Whether writes are carried out and their answers lost."""

    async def get(self, resource: Resource, namespace: str, name: str) -> Manifest:
        self._fail()
        if self.lease is None:
            raise errors.NotFoundError("no lease", status=404)
        return copy.deepcopy(self.lease)

    async def create(self, resource: Resource, manifest: Manifest) -> Manifest:
        self._fail()
        if self.lease is not None:
            raise errors.ConflictError("it exists", status=409)
        meta = {**manifest["metadata"], "uid": "1", "resourceVersion": "1"}
        self.lease = {**copy.deepcopy(manifest), "metadata": meta}
        return self._answer()

    async def merge(self, resource: Resource, namespace: str, name: str, patch: Manifest) -> Manifest:
        self._fail()
        if self.lease is None:
            raise errors.NotFoundError("no lease", status=404)
        meta = self.lease["metadata"]
        if patch["metadata"] != {field: meta[field] for field in ("uid", "resourceVersion")}:
            raise errors.ConflictError("it was changed", status=409)
        spec = {**self.lease["spec"], **patch["spec"]}
        meta = {**meta, "resourceVersion": str(int(meta["resourceVersion"]) + 1)}
        kept = {field: value for field, value in spec.items() if value is not None}
        self.lease = {**self.lease, "metadata": meta, "spec": kept}
        return self._answer()

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error

    def _answer(self) -> Manifest:
        if self.loses_answers:
            raise errors.BusyError("the connection broke")
        return copy.deepcopy(self.lease or {})


class Replicas:
    """Replicas on one clock, which the test moves."""

    def __init__(self, *names: str) -> None:
        self.now = 0.0
        self.leases = FakeLeases()
        self.by_name = {name: Election(self.leases, "system", name, lambda: self.now) for name in names}

    @property
    def leading(self) -> list[str]:
        return [name for name, replica in self.by_name.items() if replica.is_leading]

    async def pass_seconds(self, seconds: float, *running: str) -> None:
        """Let the clock run, and these replicas try once a second; never do two lead."""
        for _ in range(int(seconds)):
            self.now += 1.0
            for name in running:
                await self.by_name[name].step()
            assert len(self.leading) <= 1


async def test_the_first_one_leads_and_goes_on_leading() -> None:
    replicas = Replicas("a", "b")
    await replicas.pass_seconds(60, "a", "b")
    assert replicas.leading == ["a"]
    assert replicas.leases.lease is not None
    assert replicas.leases.lease["spec"]["leaseTransitions"] == 0


async def test_of_two_that_begin_together_one_leads() -> None:
    replicas = Replicas("a", "b")
    await asyncio.gather(*(replica.step() for replica in replicas.by_name.values()))
    assert len(replicas.leading) == 1


async def test_another_one_leads_within_ten_seconds_of_a_sudden_end() -> None:
    replicas = Replicas("a", "b")
    await replicas.pass_seconds(20, "a", "b")
    await replicas.pass_seconds(LEASE_SECONDS + 1, "b")
    assert replicas.leading == ["b"]
    assert replicas.leases.lease is not None
    assert replicas.leases.lease["spec"]["leaseTransitions"] == 1


async def test_one_that_was_stopped_for_a_minute_does_not_lead_when_it_goes_on() -> None:
    replicas = Replicas("a", "b")
    await replicas.pass_seconds(5, "a", "b")
    await replicas.pass_seconds(60, "b")
    assert not replicas.by_name["a"].is_leading
    await replicas.pass_seconds(5, "a", "b")
    assert replicas.leading == ["b"]


async def test_without_answers_the_leader_stops_before_the_lease_runs_out_for_others() -> None:
    replicas = Replicas("a", "b")
    await replicas.pass_seconds(3, "a", "b")
    replicas.leases.error = errors.BusyError("etcd is busy", status=503)
    await replicas.pass_seconds(RENEW_DEADLINE_SECONDS - 1, "a", "b")
    assert replicas.leading == ["a"]
    await replicas.pass_seconds(1, "a", "b")
    assert replicas.leading == []
    replicas.leases.error = None
    await replicas.pass_seconds(1, "a")
    assert replicas.leading == ["a"]


async def test_lost_answers_do_not_make_two_leaders() -> None:
    replicas = Replicas("a", "b")
    replicas.leases.loses_answers = True
    await replicas.pass_seconds(12, "a", "b")
    replicas.leases.loses_answers = False
    await replicas.pass_seconds(12, "a", "b")
    assert len(replicas.leading) == 1


async def test_one_that_ends_in_order_makes_room_at_once() -> None:
    replicas = Replicas("a", "b")
    running = asyncio.create_task(replicas.by_name["a"].run())
    await replicas.by_name["a"].gained()
    await replicas.by_name["b"].step()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert replicas.leading == []
    await replicas.by_name["a"].lost()
    await replicas.by_name["b"].step()
    assert replicas.leading == ["b"]


async def test_a_lease_that_somebody_deletes_is_made_again_by_one() -> None:
    replicas = Replicas("a", "b")
    await replicas.pass_seconds(3, "a", "b")
    replicas.leases.lease = None
    await replicas.pass_seconds(3, "b", "a")
    assert replicas.leading == ["a"]
    replicas.leases.lease = None
    await replicas.pass_seconds(LEASE_SECONDS + 1, "b")
    assert replicas.leading == ["b"]


async def test_without_the_right_to_the_lease_nobody_leads_and_each_says_what_to_grant() -> None:
    replicas = Replicas("a", "b")
    replicas.leases.error = errors.ForbiddenError('User "operator" cannot get resource "leases"', status=403)
    await replicas.pass_seconds(3, "a", "b")
    assert replicas.leading == []
    for replica in replicas.by_name.values():
        assert replica.trouble.startswith("Grant the operator's service account get, create and patch on leases in")
        assert 'cannot get resource "leases"' in replica.trouble
    replicas.leases.error = None
    await replicas.pass_seconds(1, "a", "b")
    assert replicas.leading == ["a"]
    assert [replica.trouble for replica in replicas.by_name.values()] == ["", ""]


async def test_a_clock_that_is_turned_changes_no_leader() -> None:
    """F21."""
    replicas = Replicas("a", "b")
    with wall_clock() as clock:
        await replicas.pass_seconds(3, "a", "b")
        for hours in (1, 0, -1):
            clock.ahead = timedelta(hours=hours)
            await replicas.pass_seconds(2 * LEASE_SECONDS, "a", "b")
            assert replicas.leading == ["a"]
