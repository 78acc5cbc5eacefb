"""The structs of requests and answers: files, presence, changes, sessions and turns, tokens and the audit log."""

from typing import TYPE_CHECKING

from yjs_gateway._own import share

if TYPE_CHECKING:
    from gateway.wire.access import *  # noqa: F403
    from gateway.wire.changes import *  # noqa: F403
    from gateway.wire.files import *  # noqa: F403
    from gateway.wire.presence import *  # noqa: F403
    from gateway.wire.problems import *  # noqa: F403
    from gateway.wire.turns import *  # noqa: F403
else:
    for each in ("access", "changes", "files", "presence", "problems", "turns"):
        share(f"gateway.wire.{each}", globals())
