"""Stored pages beside the replay: both come in the order of owners, and each must be what the replay leaves."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

from backend.kernel.ids import shard_of
from backend.ledger.audit.findings import unlike
from backend.ledger.audit.forms import Form, Known, UnknownTypeError
from backend.ledger.audit.store import stream_pages
from backend.ledger.documents import page_to_document
from backend.mongo.batches import decode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backend.ledger.audit.findings import Audit
    from backend.ledger.audit.tab import Tab, Undecoded
    from backend.ledger.model import Asset
    from backend.mongo.client import Snapshot

# Every document begins with its id: length, type text, "_id", the text's length.
ID_MARK = b"\x02_id\0"
ID_START = 4 + len(ID_MARK)
TEXT_START = ID_START + 4


class _PageForm(NamedTuple):
    """A form of pages without holds, and the assets on them."""

    form: Form
    assets: tuple[Asset, ...]


class Pages:
    """All stored pages, one after the other."""

    def __init__(self, snapshot: Snapshot, audit: Audit) -> None:
        self._audit = audit
        self._batches = stream_pages(snapshot)
        self._coming: Iterator[Undecoded] = iter(())
        self._next: Undecoded | None = None
        self._known: Known[_PageForm] = Known()

    async def start(self) -> None:
        """Go to the first page."""
        await self._advance()

    async def close(self, tab: Tab) -> None:
        """Compare the finished replay with the stored page of its owner."""
        while self._next is not None and (name := text_id(self._next)) != tab.raw:
            if name is not None and name > tab.raw:
                break
            await self._pass_over()
        if self._next is None or text_id(self._next) != tab.raw:
            self._audit.report(f"page {tab.owner}", "is missing though transactions touch it")
            return
        self._audit.pages += 1
        batch, start, size = self._next
        if not self._is_as_known(tab, batch, start, size):
            self._compare(tab, bytes(batch[start : start + size]))
        await self._advance()

    async def end(self) -> None:
        """Report the pages behind the last owner."""
        while self._next is not None:
            await self._pass_over()

    async def _advance(self) -> None:
        self._next = next(self._coming, None)
        while self._next is None:
            found = await anext(self._batches, None)
            if found is None:
                return
            batch, spans = found
            self._coming = ((batch, *span) for span in spans)
            self._next = next(self._coming, None)

    async def _pass_over(self) -> None:
        assert self._next is not None
        self._audit.report(f"page {named(self._next)}", "no transaction explains it")
        await self._advance()

    def _is_as_known(self, tab: Tab, batch: memoryview, start: int, size: int) -> bool:
        """Whether the page is of a known form and just what the replay leaves."""
        if tab.holds:
            return False
        for form, assets in self._known.by_size.get(size, ()):
            values = form.read(batch, start)
            if values is not None:
                return values == _values(tab, assets) and len(assets) == len(tab.rows)
        return False

    def _compare(self, tab: Tab, raw: bytes) -> None:
        """The thorough way: by the codec that wrote the page; what is right teaches its form."""
        place = f"page {tab.owner}"
        try:
            problems = list(unlike(decode(raw), raw, page_to_document(tab.page())))
        except Exception as error:  # noqa: BLE001 - whatever a forged page breaks is a finding, never a traceback
            problems = [f"cannot be read: {error!r}"]
        for problem in problems:
            self._audit.report(place, problem)
        if problems or tab.holds:
            return
        try:
            form = Form(raw, lambda path: path[-1] != "asset")
        except UnknownTypeError:
            return
        assets = tuple(sorted(tab.rows))
        if form.read(raw, 0) == _values(tab, assets):
            self._known.add(len(raw), _PageForm(form, assets))


def _values(tab: Tab, assets: tuple[Asset, ...]) -> tuple[object, ...] | None:
    """What stands in the owner's page, in its order; None where the assets are others."""
    values: list[object] = [tab.raw, shard_of(tab.owner), tab.version, tab.at]
    rows = tab.rows
    for asset in assets:
        if asset not in rows:
            return None
        values += rows[asset]
    if tab.lots:
        lots = sorted(tab.lots.items())
        values += itertools.chain.from_iterable(lots)
        values.append(lots[0][0])
    return tuple(values)


def text_id(document: Undecoded) -> bytes | None:
    """The id of an undecoded document as UTF-8; None where it is no text."""
    batch, start, _ = document
    if batch[start + 4 : start + ID_START] != ID_MARK:
        return None
    size = int.from_bytes(batch[start + ID_START : start + TEXT_START], "little")
    return bytes(batch[start + TEXT_START : start + TEXT_START + size - 1])


def named(document: Undecoded) -> str:
    """The id of an undecoded document for a finding."""
    name = text_id(document)
    if name is not None:
        return name.decode(errors="replace")
    batch, start, size = document
    try:
        return repr(decode(batch[start : start + size]).get("_id"))
    except ValueError:
        return "of an id that cannot be read"
