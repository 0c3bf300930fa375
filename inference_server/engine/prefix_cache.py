"""Which pages of the KV memory hold which beginnings of prompts: bookkeeping only, the model copies the pages.

A page is PAGE_TOKENS tokens, and its key hashes these and the key of the page before it, so that equal keys mean equal
beginnings. The chain starts at the tenant: what one tenant has sent can never shorten, and so never be guessed from,
another one's time to first token. The scheduler calls this; pages are copied in and out, so none is in use for longer
than a call.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from inference_server.models.model import PAGE_TOKENS


def extend_keys(keys: list[bytes], tenant: str, token_ids: Sequence[int], pages: int) -> None:
    """Lengthen `keys`, those of the first pages of `token_ids`, until there are `pages`; all of them must be full."""
    while len(keys) < pages:
        parent = keys[-1] if keys else blake2b(tenant.encode(), digest_size=16).digest()
        start = len(keys) * PAGE_TOKENS
        tokens = array("q", token_ids[start : start + PAGE_TOKENS])
        keys.append(blake2b(parent + tokens.tobytes(), digest_size=16).digest())


@dataclass(slots=True)
class _Node:
    page: int
    parent: bytes | None
    used: int
    children: int = 0


class PrefixCache:
    """Hands out `pages` pages, least recently used first; a page that cached pages continue is not given away."""

    def __init__(self, pages: int) -> None:
        self._nodes: dict[bytes, _Node] = {}
        self._free = list(range(pages - 1, -1, -1))
        # Pages without children by last use. An entry is out of date if its page was used or continued since then.
        self._leaves: list[tuple[int, bytes]] = []
        self._now = 0

    def __len__(self) -> int:
        return len(self._nodes)

    def count(self, keys: Sequence[bytes]) -> int:
        """Return how many of `keys`, from the first on, are cached."""
        return next((index for index, key in enumerate(keys) if key not in self._nodes), len(keys))

    def use(self, keys: Sequence[bytes]) -> list[int]:
        """Return the pages of `keys`, all of which are cached, and note that they were used."""
        self._now += 1
        nodes = [self._nodes[key] for key in keys]
        for node in nodes:
            node.used = self._now
        if keys and not nodes[-1].children:
            self._offer(keys[-1])
        return [node.page for node in nodes]

    def keep(self, keys: Sequence[bytes]) -> list[tuple[int, int]]:
        """Cache `keys`; returns (index, page) of each that was not, whose page must now be filled.

        They are fewer than needed if all pages belong to this very chain.
        """
        known = self.count(keys)
        self.use(keys[:known])
        added = []
        for index in range(known, len(keys)):
            if (page := self._page()) is None:
                break
            parent = keys[index - 1] if index else None
            self._nodes[keys[index]] = _Node(page, parent, self._now)
            if parent is not None:
                self._nodes[parent].children += 1
            self._offer(keys[index])
            added.append((index, page))
        return added

    def _page(self) -> int | None:
        """Return a page to fill, evicting the leaf that was used least recently, but none that this call has used."""
        if self._free:
            return self._free.pop()
        while self._leaves and self._leaves[0][0] < self._now:
            used, key = heapq.heappop(self._leaves)
            node = self._nodes.get(key)
            if node is None or node.used != used or node.children:
                continue
            del self._nodes[key]
            if node.parent is not None:
                self._nodes[node.parent].children -= 1
                if not self._nodes[node.parent].children:
                    self._offer(node.parent)
            return node.page
        return None

    def _offer(self, key: bytes) -> None:
        heapq.heappush(self._leaves, (self._nodes[key].used, key))
        if len(self._leaves) > 4 * (len(self._nodes) + len(self._free)):
            self._leaves = [(node.used, key) for key, node in self._nodes.items() if not node.children]
            heapq.heapify(self._leaves)
