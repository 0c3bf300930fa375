"""Is what was listed still so? Asked live before the first write for an LLMService that was there at the start.

A list may come from an API server that lags behind, or was put back in time: what is decided from it alone could apply
again what was taken back, or delete what is in use. After that look the store knows what is there now, and never goes
back, whatever later lists say. An LLMService that a watch told of is younger than the first lists, as are its children.
"""

from llmservice_operator import names
from llmservice_operator.cluster import errors
from llmservice_operator.cluster.client import Client
from llmservice_operator.cluster.interface import OutdatedError, OwnerGoneError
from llmservice_operator.cluster.listing import listed
from llmservice_operator.cluster.resources import CHILDREN, LLMSERVICES, Key, Resource
from llmservice_operator.cluster.store import Entry, Store
from llmservice_operator.manifest import Manifest


class Confirmation:
    """Knows which LLMServices were only listed so far."""

    def __init__(self, client: Client, store: Store):
        self._client = client
        self._store = store
        self._unseen: dict[str, list[Resource]] = {}
        """The kinds that are still to be looked at, by the uid of the LLMService."""

    def doubt(self) -> None:
        """Take every LLMService there is for one that was only listed: some kind was listed for the first time."""
        self._unseen = {entry.uid: [LLMSERVICES, *CHILDREN] for entry in self._store.all(LLMSERVICES)}

    async def confirm(self, owner: Manifest) -> None:
        """Read an LLMService and its children live, once, if it was only listed so far.

        Where the API server is so slow that the time for a reconcile ends before that, the next one goes on from there:
        what it decides from has in it what was read.

        Raises:
            OutdatedError: something is otherwise than it was listed; the store has it now.
            OwnerGoneError: the LLMService is not there any more.
        """
        meta = owner["metadata"]
        unseen = self._unseen.get(meta["uid"], [])
        is_news = False
        while unseen:
            is_news |= await self._look_at(owner, unseen[0])
            del unseen[0]
        self._unseen.pop(meta["uid"], None)
        if is_news:
            raise OutdatedError(f"LLMService {meta['namespace']}/{meta['name']} is not as it was listed")

    async def _look_at(self, owner: Manifest, resource: Resource) -> bool:
        if resource == LLMSERVICES:
            return await self._look_at_owner(owner)
        meta = owner["metadata"]
        return await self._look_at_children(Key(meta["namespace"], meta["name"]), resource)

    async def _look_at_owner(self, owner: Manifest) -> bool:
        meta = owner["metadata"]
        try:
            live = await self._client.get(LLMSERVICES, meta["namespace"], meta["name"])
        except errors.NotFoundError as error:
            raise OwnerGoneError(error.message) from error
        return self._store.put(LLMSERVICES, Entry.of(live))

    async def _look_at_children(self, key: Key, resource: Resource) -> bool:
        selector = f"{names.CHILDREN_LABEL_SELECTOR},{names.INSTANCE_LABEL}={key.name}"
        entries, resource_version = await listed(self._client, resource, key.namespace, selector)
        return self._store.replace_children(key, resource, entries, int(resource_version))
