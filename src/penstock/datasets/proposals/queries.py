"""All SQL of proposals, for SQLite and PostgreSQL alike. Transactions are the caller's."""

from collections.abc import Collection, Sequence

import msgspec
from sqlalchemy import Connection, func, insert, select, update

from penstock.datasets.proposals.types import Proposal
from penstock.store.control.tables.proposals import dataset_proposals as table

_decoder = msgspec.json.Decoder(Proposal)


def insert_new(connection: Connection, proposals: Sequence[Proposal]) -> None:
    """Add proposals; those whose id is there already stay as they are."""
    ids = [each.id for each in proposals]
    known = set(connection.execute(select(table.c.id).where(table.c.id.in_(ids))).scalars())
    fresh = [
        {
            "id": each.id,
            "dataset": each.dataset,
            "batch": each.batch,
            "state": each.state,
            "content": _encode(each),
            "created_ns": each.created_ns,
            "decided_ns": None,
        }
        for each in proposals
        if each.id not in known
    ]
    if fresh:
        connection.execute(insert(table), fresh)


def get(connection: Connection, proposal_id: str) -> Proposal | None:
    """Return a proposal, its row held where the database can, or None."""
    query = select(table.c.content).where(table.c.id == proposal_id).with_for_update()
    text = connection.execute(query).scalar_one_or_none()
    return None if text is None else _decoder.decode(text)


def replace(connection: Connection, proposal: Proposal, *, was: str) -> bool:
    """Write a proposal if its state is still `was`; return whether it was."""
    done = connection.execute(
        update(table)
        .where(table.c.id == proposal.id, table.c.state == was)
        .values(state=proposal.state, content=_encode(proposal), decided_ns=proposal.decided_ns)
    )
    return done.rowcount == 1


def list_page(
    connection: Connection,
    *,
    dataset: str | None,
    states: Collection[str],
    batch: str | None,
    after: str | None,
    limit: int,
) -> list[Proposal]:
    """Return proposals in the order of their ids, which is that of their making."""
    query = select(table.c.content).order_by(table.c.id).limit(limit)
    if dataset is not None:
        query = query.where(table.c.dataset == dataset)
    if states:
        query = query.where(table.c.state.in_(tuple(states)))
    if batch is not None:
        query = query.where(table.c.batch == batch)
    if after is not None:
        query = query.where(table.c.id > after)
    return [_decoder.decode(text) for text in connection.execute(query).scalars()]


def count_states(connection: Connection, dataset: str | None) -> dict[str, int]:
    """Return how many proposals there are in each state."""
    query = select(table.c.state, func.count()).group_by(table.c.state)
    if dataset is not None:
        query = query.where(table.c.dataset == dataset)
    return {state: int(n) for state, n in connection.execute(query)}


def count_pending(connection: Connection) -> dict[str, int]:
    """Return dataset to the number of proposals that wait for a decision or for being added."""
    query = (
        select(table.c.dataset, func.count())
        .where(table.c.state.in_(("pending", "accepted")))
        .group_by(table.c.dataset)
    )
    return {name: int(n) for name, n in connection.execute(query)}


def _encode(proposal: Proposal) -> str:
    return msgspec.json.encode(proposal).decode()
