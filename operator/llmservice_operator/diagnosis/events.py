"""What Events say about one object: for volumes, and for pods that are never created, nothing else does."""

from collections.abc import Collection

from llmservice_operator.diagnosis.trouble import printable
from llmservice_operator.manifest import Manifest, happened_at


def latest_words(manifest: Manifest, events: tuple[Manifest, ...], reasons: Collection[str]) -> str | None:
    """Return the message of the latest Event about an object that has one of `reasons`; None when there is none."""
    uid = manifest["metadata"]["uid"]
    mine = [event for event in events if _subject(event).get("uid") == uid and event.get("reason") in reasons]
    if not mine:
        return None
    latest = max(mine, key=happened_at)
    return printable(latest.get("message") or latest.get("note", ""))


def _subject(event: Manifest) -> Manifest:
    subject: Manifest = event.get("involvedObject") or event.get("regarding") or {}
    return subject
