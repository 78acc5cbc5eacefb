"""Checksums for rows that a test has changed: what does not fit together is found also where no bit has flipped."""

import sqlite3

from storage.checksums import checksum, row_checksum
from storage.sqlite.row_checks import CHECKED, checksum_of


def renew_checksums(connection: sqlite3.Connection) -> None:
    """Give every row the checksums of what it holds."""
    connection.create_function("row_checksum", -1, row_checksum)
    connection.create_function("body_checksum", 1, checksum)
    connection.execute("UPDATE block SET checksum = body_checksum(content)")
    connection.execute("UPDATE project SET floor_check = row_checksum(tombstone_floor)")
    connection.execute("UPDATE file SET base_check = row_checksum(base_version)")
    for table in CHECKED:
        connection.execute(f"UPDATE {table} SET row_check = {checksum_of(table)}")
