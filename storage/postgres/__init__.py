"""Storage in PostgreSQL, for any number of gateways at once (`storage.postgres.storage.PostgresStorage`)."""

from storage.postgres.storage import PostgresStorage

__all__ = ["PostgresStorage"]
