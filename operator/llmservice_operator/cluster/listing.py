"""Reads a whole list, page by page."""

from llmservice_operator.cluster.client import PAGE_SIZE, Client
from llmservice_operator.cluster.resources import Resource
from llmservice_operator.cluster.store import Entry


async def listed(
    client: Client, resource: Resource, namespace: str | None, label_selector: str | None
) -> tuple[list[Entry], str]:
    """Return all pages of a list and the one resource version they are of.

    A list that expires half-way is a GoneError: it starts again from its caller.
    """
    entries: list[Entry] = []
    query = {"limit": str(PAGE_SIZE)}
    if label_selector:
        query["labelSelector"] = label_selector
    while True:
        page = await client.list_page(resource, namespace, query)
        # Items of a list leave out what the list says once.
        of_kind = {"apiVersion": resource.api_version, "kind": resource.kind}
        entries += [Entry.of({**of_kind, **item}) for item in page["items"]]
        token = page["metadata"].get("continue")
        if not token:
            return entries, page["metadata"]["resourceVersion"]
        query["continue"] = token
