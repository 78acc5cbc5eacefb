"""Transactions without pycrdt's objects around them, which take as long as the transaction of a keystroke itself.

These functions use what pycrdt does not make public. pyproject.toml names the releases that they were checked with.
"""

from collections.abc import Callable
from typing import Any

import pycrdt


def apply_update(document: pycrdt.Doc[Any], update: bytes) -> None:
    """Apply an update as `Doc.apply_update` does."""
    yrs = document._doc
    transaction = yrs.create_transaction()
    try:
        yrs.apply_update(transaction, update)
    finally:
        try:
            transaction.commit()
        finally:
            transaction.drop()


def observe(document: pycrdt.Doc[Any], observer: Callable[[pycrdt.TransactionEvent], None]) -> pycrdt.Subscription:
    """Call an observer, which must not raise, with the event of each transaction, until the subscription is dropped."""
    return document._doc.observe(observer)
