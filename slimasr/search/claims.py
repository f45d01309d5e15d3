"""The table of claims: which worker evaluates which subnet of a study now.

Of all workers that insert a claim for a subnet, the database lets in the first. Whoever changes or removes a claim says
in the same statement what it was when last seen, and the database tells whether it still was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy
from sqlalchemy import Column, ColumnElement, DateTime, Integer, MetaData, String, Table, Text, UniqueConstraint, func
from sqlalchemy.dialects import postgresql, sqlite

Row = sqlalchemy.Row[Any]

CLAIMS = Table(
    "slimasr_claims",
    MetaData(),
    Column("number", Integer, primary_key=True),
    Column("study", String(512), nullable=False),
    # SHA-256 of the subnet, whose JSON may be too long for an index.
    Column("subnet", String(64), nullable=False),
    Column("owner", Text, nullable=False),
    Column("token", String(32), nullable=False),
    # By the clock of the database, as those of the workers may differ.
    Column("heartbeat", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("beats", Integer, nullable=False, default=0),
    Column("proposal", Text, nullable=False),
    UniqueConstraint("study", "subnet"),
    sqlite_autoincrement=True,  # no number is used twice
)


class Claims:
    """The claims of one study."""

    def __init__(self, engine: sqlalchemy.Engine, study: str) -> None:
        """Make the table where there is none."""
        self._engine = engine
        self._study = study
        CLAIMS.metadata.create_all(engine)
        if engine.dialect.name == "sqlite":
            self._insert: sqlalchemy.Insert = sqlite.insert(CLAIMS).on_conflict_do_nothing()
        elif engine.dialect.name == "postgresql":
            self._insert = postgresql.insert(CLAIMS).on_conflict_do_nothing()
        else:
            self._insert = sqlalchemy.insert(CLAIMS).prefix_with("IGNORE", dialect="mysql")

    def rows(self) -> Sequence[Row]:
        """All claims, with the time of the database as ``now``."""
        query = sqlalchemy.select(CLAIMS, func.now().label("now")).where(CLAIMS.c.study == self._study)
        with self._engine.connect() as connection:
            return connection.execute(query).all()

    def add(self, claim: Mapping[str, Any]) -> None:
        """Insert a claim, unless there is one of its subnet."""
        self._change(self._insert.values(study=self._study, **claim))

    def beat(self, number: int) -> bool:
        """Record a heartbeat; returns whether the claim is still there."""
        values = {"heartbeat": func.now(), "beats": CLAIMS.c.beats + 1}
        return self._change(sqlalchemy.update(CLAIMS).where(CLAIMS.c.number == number).values(values))

    def remove(self, number: int, *expected: ColumnElement[bool]) -> bool:
        """Remove a claim; returns whether it was there and as expected."""
        return self._change(sqlalchemy.delete(CLAIMS).where(CLAIMS.c.number == number, *expected))

    def _change(self, statement: sqlalchemy.UpdateBase) -> bool:
        with self._engine.begin() as connection:
            return connection.execute(statement).rowcount > 0
