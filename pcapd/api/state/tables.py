"""The tables of holders and captures."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Column, Integer, MetaData, Table, Text

__all__ = ["CAPTURES", "HOLDERS", "META", "VERSION"]

META = MetaData()
VERSION = Table("pcapd_schema", META, Column("version", Integer, nullable=False))
#: One row for each process; what it holds counts until ``until_us`` by the database's clock.
HOLDERS = Table(
    "holders",
    META,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("until_us", BigInteger, nullable=False),
)
#: One row for each running capture.  A text in ``ending`` asks the holder to end it, and says why.
CAPTURES = Table(
    "captures",
    META,
    Column("id", Text, primary_key=True),
    Column("holder", Text, nullable=False, index=True),
    Column("identity", Text, nullable=False),
    Column("unattended", Boolean, nullable=False),
    Column("about", JSON, nullable=False),
    Column("ending", Text, nullable=False),
)
