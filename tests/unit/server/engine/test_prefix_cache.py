"""The prefix cache's bookkeeping, held against a plain description of what it must hold."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inference_server.engine.prefix_cache import PrefixCache, extend_keys
from inference_server.models.model import PAGE_TOKENS


def keys_of(*first_tokens: int, tenant: str = "") -> list[bytes]:
    """Return the keys of pages, each filled with one token of `first_tokens`."""
    keys: list[bytes] = []
    extend_keys(keys, tenant, [token for token in first_tokens for _ in range(PAGE_TOKENS)], len(first_tokens))
    return keys


def test_equal_keys_mean_equal_beginnings() -> None:
    assert keys_of(1, 2) == keys_of(1, 2)
    assert keys_of(1, 2)[:1] == keys_of(1, 3)[:1]
    assert keys_of(1, 2)[1] != keys_of(3, 2)[1]


def test_keys_grow_from_where_they_are() -> None:
    keys = keys_of(1)
    extend_keys(keys, "", [1] * PAGE_TOKENS + [2] * PAGE_TOKENS, 2)
    assert keys == keys_of(1, 2)


def test_tenants_share_nothing() -> None:
    assert not set(keys_of(1, 2, tenant="a")) & set(keys_of(1, 2, tenant="b"))


def test_what_is_kept_is_found_again_as_far_as_it_agrees() -> None:
    cache = PrefixCache(4)

    assert [index for index, _ in cache.keep(keys_of(1, 2, 3))] == [0, 1, 2]

    pages = cache.use(keys_of(1, 2, 3))
    assert len(set(pages)) == 3
    assert cache.count(keys_of(1, 2, 9, 9)) == 2
    assert cache.count(keys_of(2)) == 0
    assert cache.use(keys_of(1, 2)) == pages[:2]


def test_what_is_cached_already_is_not_stored_again() -> None:
    cache = PrefixCache(4)
    cache.keep(keys_of(1, 2))

    assert [index for index, _ in cache.keep(keys_of(1, 2, 3))] == [2]
    assert cache.keep(keys_of(1, 2, 3)) == []


def test_the_end_that_was_used_least_recently_goes_first() -> None:
    cache = PrefixCache(3)
    cache.keep(keys_of(1, 2))
    cache.keep(keys_of(3))
    cache.use(keys_of(1, 2))

    cache.keep(keys_of(4))

    assert (cache.count(keys_of(1, 2)), cache.count(keys_of(3)), cache.count(keys_of(4))) == (2, 0, 1)


def test_a_beginning_in_use_outlives_its_continuation() -> None:
    cache = PrefixCache(3)
    cache.keep(keys_of(1, 2))
    cache.keep(keys_of(3))
    cache.use(keys_of(1))

    cache.keep(keys_of(4))  # instead of 1, 2: the oldest end
    cache.keep(keys_of(5))  # instead of 3: page 1 was used after it

    assert [cache.count(keys_of(*tokens)) for tokens in ((1, 2), (3,), (4,), (5,))] == [1, 0, 1, 1]


def test_a_chain_longer_than_the_cache_keeps_its_beginning() -> None:
    cache = PrefixCache(2)

    assert [index for index, _ in cache.keep(keys_of(1, 2, 3))] == [0, 1]
    assert cache.count(keys_of(1, 2, 3)) == 2


chains = st.lists(st.integers(0, 2), min_size=1, max_size=5)


@given(st.integers(1, 6), st.lists(st.tuples(st.booleans(), chains), max_size=60))
def test_whatever_happens_pages_stay_distinct_and_parents_stay(
    pages: int, operations: list[tuple[bool, list[int]]]
) -> None:
    cache = PrefixCache(pages)
    content: dict[int, tuple[int, ...]] = {}
    for is_keep, chain in operations:
        keys = keys_of(*chain)
        if is_keep:
            for index, page in cache.keep(keys):
                content[page] = tuple(chain[: index + 1])
        else:
            cache.use(keys[: cache.count(keys)])

        hits = cache.count(keys)
        assert hits >= min(len(chain), pages) or not is_keep
        assert [content[page] for page in cache.use(keys[:hits])] == [tuple(chain[: n + 1]) for n in range(hits)]
        assert len(cache) <= pages
        nodes = cache._nodes
        assert len({node.page for node in nodes.values()}) == len(nodes)
        for key, node in nodes.items():
            assert node.children == sum(other.parent == key for other in nodes.values())
            assert node.parent is None or nodes[node.parent].used >= node.used
