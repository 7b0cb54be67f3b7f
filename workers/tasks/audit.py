"""Tasks of the auditor."""

from __future__ import annotations

from backend.audit import follow_books
from workers import loop
from workers.app import app


@app.task(name="audit.follow")
def follow() -> None:
    """Audit the blocks made since the last time."""
    loop.run(follow_books)
