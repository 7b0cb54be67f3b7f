"""Reasons, errors and the life of a feed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backend.actions.feeds.afc import read_afc
from backend.actions.feeds.model import FeedFormatError, FeedReason, size_of
from backend.kernel.errors import Language

if TYPE_CHECKING:
    from pathlib import Path

    from backend.actions.feeds.network import Network


@pytest.mark.parametrize("reason", FeedReason)
def test_every_reason_is_its_code_and_has_a_sentence_in_both_languages(reason: FeedReason) -> None:
    assert reason == reason.name == reason.value
    assert FeedReason[reason.name] is reason
    assert reason.sentence().isascii()
    assert any("\u4e00" <= letter <= "\u9fff" for letter in reason.sentence(Language.ZH_CN))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FeedFormatError) as caught:
        size_of(tmp_path / "none.csv")
    assert caught.value.message() == "file none.csv is not in this feed's format: no such file"
    assert caught.value.message(Language.ZH_CN) == "文件 none.csv 无法按此格式读取:no such file"


def test_a_closed_feed_ends(tmp_path: Path, metro: Network) -> None:
    path = tmp_path / "taps.csv"
    path.write_text("card_no,deal_date,deal_type,deal_value,equ_no,company_name,station\n" + "bad\n" * 3)
    feed = read_afc(path, metro)
    assert next(feed).row == 1
    feed.close()
    assert list(feed) == []
