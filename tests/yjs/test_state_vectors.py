"""State vectors as clients send them."""

import pytest

from gateway.yjs.lib0 import MalformedUpdate, var_uint
from gateway.yjs.state_vectors import check_state_vector


def test_a_state_vector_may_name_as_many_clients_as_two_documents_have() -> None:
    assert check_state_vector(var_uint(200_000) + b"\7\1" * 200_000) == 200_000


def test_one_of_very_many_clients_is_refused_before_it_is_looked_at() -> None:
    for behind in (b"", b"\7\1" * 10):
        with pytest.raises(MalformedUpdate, match="more than 250000 clients"):
            check_state_vector(var_uint(7_500_000) + behind)
