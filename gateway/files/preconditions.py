"""The preconditions of a write (RFC 9110 §13). Pure."""

from msgspec import Struct

from gateway.wire.headers import file_headers
from gateway.wire.problems import FileDeleted, PreconditionFailed
from gateway.wire.tags import EntityTags, entity_tag
from storage import FileHead

_SKEW_MS = 1000
"""By how much the clocks of gateways on one database usually differ at most."""


class Preconditions(Struct, frozen=True):
    """The conditions on the state of a file under which a write is made."""

    if_match: EntityTags | None = None
    if_none_match: EntityTags | None = None
    if_unmodified_since: int | None = None
    """In seconds since 1970. Evaluated only if `if_match` is None (RFC 9110 §13.2.2)."""
    asked_at: int = 0
    """When the request came, in milliseconds since 1970."""
    incarnation: str | None = None
    tombstone: int | None = None
    """The version of the tombstone on which a new incarnation of the file may begin; 0: on no tombstone."""

    def may_still_fail(self, head: FileHead | None) -> bool:
        """Return whether preconditions that hold for `head` may fail for a later version, as those on tags do."""
        if self is UNCONDITIONAL:
            return False
        life_alone = self.if_match is None and self.if_none_match is None and self.if_unmodified_since is None
        return self != UNCONDITIONAL and not (life_alone and head is not None and not head.deleted)

    def check(self, path: str, head: FileHead | None) -> None:
        """Raise FileDeleted if another incarnation of the file is meant, PreconditionFailed if a tag or date fails."""
        if self is UNCONDITIONAL:
            return
        live = head if head is not None and not head.deleted else None
        if self.incarnation is not None and (live is None or live.incarnation != self.incarnation):
            raise FileDeleted(path, None if head is None else file_headers(head))
        if self.tombstone is not None and head is not None and head.deleted and head.version != self.tombstone:
            raise FileDeleted(path, file_headers(head))
        if self.if_match is None and self.if_none_match is None and self.if_unmodified_since is None:
            return
        state = None if live is None else entity_tag(live)
        if self._is_refused(live, state):
            raise PreconditionFailed(
                f"{path!r} does not exist" if live is None else f"{path!r} is at version {live.version} now",
                None if live is None else file_headers(live),
            )
        if self.if_none_match is not None and self.if_none_match.match_state(state):
            assert live is not None
            raise PreconditionFailed(f"{path!r} is there already, at version {live.version}", file_headers(live))

    def _is_refused(self, live: FileHead | None, state: str | None) -> bool:
        """Return whether the file changed since the writer read it: a date is evaluated only without a tag."""
        if self.if_match is not None:
            return not self.if_match.match_state(state)
        since = self.if_unmodified_since
        return since is not None and live is not None and changed_since(live.last_modified, since, self.asked_at)


def changed_since(last_modified: int, since: int, now: int) -> bool:
    """Return whether a file may have changed since a date.

    The times of a project never go back. After the clock was set back, all changes have the newest time until the clock
    has reached it, so that this time says nothing of whether there was another change.

    Args:
        last_modified, now: milliseconds since 1970.
        since: seconds since 1970.
    """
    return last_modified // 1000 > since or last_modified > now + _SKEW_MS


UNCONDITIONAL = Preconditions()
"""No preconditions."""
