"""The table of claims: who evaluates which subnet of a study, and what was found.

The subnet is part of the primary key, so of all workers that insert a claim for it, the database lets in the first.
Every later change is one ``UPDATE`` of the claim as it was last seen. Claims are numbered one after the other, and no
number is visible before all smaller ones are: a reader needs new numbers, and what was not settled when it last read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy
from sqlalchemy import Column, Double, Integer, MetaData, String, Table, Text, UniqueConstraint, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

Row = sqlalchemy.Row[Any]

CLAIMS = Table(
    "slimasr_claims",
    MetaData(),
    # SHA-256 of the study's name and identity, and of the subnet: the texts may be too long for an index.
    Column("study", String(64), primary_key=True),
    Column("subnet", String(64), primary_key=True),
    Column("number", Integer, nullable=False),
    # "running", "measured" or "stopped"; a claim that was freed is "stopped", with or without an earlier outcome.
    Column("state", String(16), nullable=False),
    # The process that evaluates the subnet or shows its trial, and which of its claims this is; null where all is done.
    Column("owner", Text),
    Column("token", String(32)),
    Column("heartbeat", Double, nullable=False),
    Column("started", Double, nullable=False),
    Column("ended", Double),
    # How many workers died over the subnet, and how long all of them were at it.
    Column("deaths", Integer, nullable=False, default=0),
    Column("seconds", Double, nullable=False, default=0.0),
    # JSON: the databases' own types of that name refuse NaN.
    Column("proposal", Text, nullable=False),
    Column("outcome", Text),
    UniqueConstraint("study", "number"),
)
_CLOCKS = {
    "sqlite": "(julianday('now') - 2440587.5) * 86400.0",
    "postgresql": "extract(epoch FROM clock_timestamp())",
}
_MYSQL_CLOCK = "unix_timestamp(now(6))"


class Claims:
    """The claims of one study.

    Attributes:
        now: seconds since 1970 by the clock of the database, as those of its clients may differ; in SQL.
        next_number: the number after all others; in SQL.
    """

    def __init__(self, engine: sqlalchemy.Engine, study: str) -> None:
        """Make the table where there is none."""
        self._engine = engine
        self._study = study
        CLAIMS.metadata.create_all(engine)
        self.now = sqlalchemy.literal_column(_CLOCKS.get(engine.dialect.name, _MYSQL_CLOCK), Double)
        highest = select(func.coalesce(func.max(CLAIMS.c.number), 0).label("number")).where(CLAIMS.c.study == study)
        # MySQL updates no table from a query of itself, but from one of a query of itself.
        self.next_number = select(highest.subquery().c.number + 1).scalar_subquery()

    def read(self, after: int, unsettled: Collection[str]) -> Sequence[Row]:
        """Claims of larger numbers and those of some subnets, with the seconds since their heartbeat as ``silence``."""
        wanted = (CLAIMS.c.number > after) | CLAIMS.c.subnet.in_(unsettled)
        query = select(CLAIMS, (self.now - CLAIMS.c.heartbeat).label("silence"))
        with self._engine.connect() as connection:
            return connection.execute(query.where(CLAIMS.c.study == self._study, wanted)).all()

    def add(self, claim: Mapping[str, Any]) -> None:
        """Insert a claim, unless there is one of its subnet."""
        values = {"study": self._study, "heartbeat": self.now, **claim}
        with self._engine.begin() as connection:
            if self._engine.dialect.name == "sqlite":
                connection.execute(sqlite.insert(CLAIMS).values(values).on_conflict_do_nothing())
            elif self._engine.dialect.name == "postgresql":
                connection.execute(postgresql.insert(CLAIMS).values(values).on_conflict_do_nothing())
            else:
                connection.execute(sqlalchemy.insert(CLAIMS).values(values).prefix_with("IGNORE"))

    def update(self, subnet: str, token: str | None, values: Mapping[str, Any], *expected: Any) -> bool:
        """Change a claim, which is a heartbeat too, if token and all else are as expected; whether they were."""
        same = (CLAIMS.c.study == self._study, CLAIMS.c.subnet == subnet, CLAIMS.c.token == token, *expected)
        update = sqlalchemy.update(CLAIMS).where(*same).values({"heartbeat": self.now, **values})
        try:
            with self._engine.begin() as connection:
                return connection.execute(update).rowcount > 0
        except IntegrityError:  # another claim has got its number meanwhile
            return False
