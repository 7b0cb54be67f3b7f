"""The HTML of certificates: whatever people wrote is escaped, nothing is loaded from elsewhere, no script is used."""

from __future__ import annotations

import base64
import hashlib
import html
from dataclasses import dataclass
from enum import Enum
from importlib import resources
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from backend.kernel.errors import Language, Text
from backend.market.retirement.wording import FULL, TITLE, said_date, said_grams

if TYPE_CHECKING:
    from collections.abc import Iterable
    from zoneinfo import ZoneInfo

    from backend.ledger.sealing.model import Block
    from backend.market.retirement.model import Certificate
    from backend.market.retirement.wording import Fact, Shown

STYLE = (resources.files("backend.certificates") / "certificate.css").read_text("utf-8")
_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
REGISTER = Text("注销登记", "Retirement register")
STANDS = Text("账本中有这笔注销，数量与序列号完全一致", "The book has this very retirement, of exactly these serials")
FALLS = Text(
    "账本中没有与此证书一致的注销，请勿采信",
    "The book has no retirement that agrees with this certificate: do not rely on it",
)
SEALED = Text("已于 {date} 封存于区块 {height}", "Sealed on {date} in block {height}")
UNSEALED = Text("尚未封存，通常在一分钟内完成，请稍后刷新", "Not sealed yet; this usually takes a minute")
BROKEN = Text("封存记录已损坏，运营方已收到通知", "The seal is damaged; the programme has been told")
FACTS = Text("减排量", "Credit")
PROOF = Text("凭证", "Proof")
ROOT = Text("区块根", "Root of the block")
PUBLISHED = Text("公开发布的根", "Published roots")
WORDS = Text("证书文字的 SHA-256", "SHA-256 of the words")
PDF, PNG, RECEIPT = Text("下载 PDF", "PDF"), Text("下载图片", "Picture"), Text("下载凭证 JSON", "Receipt (JSON)")
CHECK = Text("自行核验", "Check it yourself")
HOW = Text(
    "凭证可脱离本平台核验：下载凭证与 verify_receipt.py，运行下面的命令。证书上的文字按下列写法取 SHA-256，"
    "应与凭证 cause 中的 words 相同。",
    "The receipt can be checked without this programme: download it and verify_receipt.py, and run the command below. "
    "The certificate's words in this spelling have the SHA-256 that the receipt's cause calls words.",
)
OWNERS = Text(
    "凭证会显示注销人，注销人未署名，因此仅由本人持有（GraphQL 查询 receipt）",
    "The receipt tells who retired the credits, and they are not named: their owner has it (GraphQL: receipt)",
)
TOTAL = Text("共注销 {count} 笔，{grams}二氧化碳当量", "{count} retirements of {grams} CO2e in all")
SEARCH = Text("受益人名称开头", "Beneficiary begins with")
FIND = Text("查找", "Find")
OLDER = Text("更早的注销", "Older retirements")
NOTHING = Text("没有符合条件的注销", "No retirement like that")
OF_CREDIT = Text("减排量 {credit}", "of credit {credit}")
MISSING = Text("没有这份证书", "There is no such certificate")
MISSING_WHY = Text("请核对编号；编号印在证书左下角。", "Please check the number; it stands in the lower left corner.")
FOOT = Text("每一克都可追溯。", "Every gram can be traced.")
PICTURE = Text("证书图样", "Picture of the certificate")


class Standing(Enum):
    """What became of the certificate's seal."""

    SEALED = "good"
    UNSEALED = "wait"
    BROKEN = "bad"


@dataclass(frozen=True, slots=True)
class Proof:
    """What was found when the certificate was held against book and seals; ``words`` is what people wrote on it.

    ``is_public``: everybody may have the receipt.
    """

    stands: bool
    standing: Standing
    block: Block | None
    words: str
    words_hash: str
    is_public: bool


@dataclass(frozen=True, slots=True)
class Listed:
    """A page of the register, what it was asked for, and the address of the next one."""

    certificates: tuple[Certificate, ...]
    count: int
    grams: int
    sought: str
    credit: str
    older: str | None


def certificate_page(shown: Shown, proof: Proof, programme: Text, zone: ZoneInfo) -> str:
    """The page of one certificate."""
    language, number = shown.language, shown.number.said
    lang = f"?{urlencode({'lang': language})}"
    files = ((PDF, f"{number}.pdf{lang}"), (PNG, f"{number}.png{lang}"))
    links = [(text, address) for text, address in files if proof.stands]
    links += [(RECEIPT, f"{number}/receipt.json")] if proof.block and proof.is_public else []
    listed = "".join(f'<li><a href="/certificates/{_e(to)}">{_e(text.said(language))}</a></li>' for text, to in links)
    preview = (
        f'<a href="/certificates/{_e(number)}.png{_e(lang)}"><img class="preview" alt="{_e(PICTURE.said(language))}" '
        f'width="2526" height="1785" loading="lazy" src="/certificates/{_e(number)}.png{_e(lang)}"></a>'
    )
    body = (
        f'<article class="card">{_front(shown)}<ul class="verdict">{_verdict(proof, language, zone)}</ul>'
        f'<ul class="files">{listed}</ul><h2>{_e(FACTS.said(language))}</h2>{_list(shown.facts)}{_origin(shown)}'
        f"<h2>{_e(PROOF.said(language))}</h2>{_proof(shown, proof)}{_check(shown, proof)}"
        f"{preview if proof.stands else ''}</article>"
    )
    return _page(f"{shown.title} {number}", body, programme, language, f"/certificates/{number}")


def _front(shown: Shown) -> str:
    statement = f'<p class="statement">{_e(shown.statement)}</p>' if shown.statement else ""
    return (
        f'<div class="front"><h1>{_e(shown.title)}</h1><p class="sub">{_e(shown.number.said)}</p><hr class="rule">'
        f'<p class="soft">{_e(shown.certifies)}</p><p class="who">{_e(shown.beneficiary)}</p>'
        f'<p class="soft">{_e(shown.retired)}</p><p class="amount">{_e(shown.amount)}</p>'
        f'<p class="reason">{_e(shown.reason)}</p>{statement}</div>'
    )


def _verdict(proof: Proof, language: Language, zone: ZoneInfo) -> str:
    if not proof.stands:
        return f'<li class="bad">{_e(FALLS.said(language))}</li>'
    rows = [(STANDS.said(language), "good")]
    if proof.block is not None:
        header = proof.block.header
        date = said_date(header.sealed_at, zone, language)
        rows.append((SEALED.said(language).format(date=date, height=header.height), Standing.SEALED.value))
    else:
        text = BROKEN if proof.standing is Standing.BROKEN else UNSEALED
        rows.append((text.said(language), proof.standing.value))
    return "".join(f'<li class="{kind}">{_e(said)}</li>' for said, kind in rows)


def _origin(shown: Shown) -> str:
    if not shown.shares:
        return ""
    rows = "".join(
        f'<div class="share"><span>{_e(share.name)}</span><span>{_e(share.said)}</span></div>'
        f'<meter min="0" max="{FULL}" value="{share.permille}"></meter>'
        for share in shown.shares
    )
    said = "".join(f'<p class="soft">{_e(line)}</p>' for line in shown.acts)
    return f"<h2>{_e(shown.origin)}</h2>{rows}<br>{said}"


def _proof(shown: Shown, proof: Proof) -> str:
    language = shown.language
    rows = [(shown.proof[0].name, _mono(shown.proof[0].said)), (WORDS.said(language), _mono(proof.words_hash))]
    if proof.block is not None:
        day = f"/.well-known/tanhui/roots/{proof.block.day.isoformat()}.json"
        rows.append((ROOT.said(language), _mono(proof.block.header.root)))
        rows.append((PUBLISHED.said(language), f'<a href="{day}">{day}</a>'))
    return f"<dl>{''.join(f'<dt>{_e(name)}</dt><dd>{said}</dd>' for name, said in rows)}</dl>"


def _check(shown: Shown, proof: Proof) -> str:
    if proof.block is None:
        return ""
    language, site = shown.language, shown.url.partition("/certificates/")[0]
    if not proof.is_public:
        return f"<p>{_e(OWNERS.said(language))}</p>"
    command = f"python verify_receipt.py receipt.json {site}/.well-known/tanhui/roots/"
    return (
        f"<details><summary>{_e(CHECK.said(language))}</summary><p>{_e(HOW.said(language))}</p>"
        f'<pre class="mono">{_e(command)}</pre><pre class="mono">{_e(proof.words)}</pre></details>'
    )


def register_page(listed: Listed, programme: Text, zone: ZoneInfo, language: Language) -> str:
    """A page of the register."""
    total = TOTAL.said(language).format(count=f"{listed.count:,}", grams=said_grams(listed.grams, language))
    scope = f"<p>{_e(OF_CREDIT.said(language).format(credit=listed.credit))}</p>" if listed.credit else ""
    hidden = f'<input type="hidden" name="credit" value="{_e(listed.credit)}">' if listed.credit else ""
    form = (
        f'<form action="/certificates" method="get"><input name="beneficiary" maxlength="120" '
        f'aria-label="{_e(SEARCH.said(language))}" placeholder="{_e(SEARCH.said(language))}" '
        f'value="{_e(listed.sought)}">'
        f'{hidden}<input type="hidden" name="lang" value="{language}"><button>{_e(FIND.said(language))}</button></form>'
    )
    entries = "".join(_entry(certificate, zone, language) for certificate in listed.certificates)
    shown = f'<ul class="entries">{entries}</ul>' if entries else f'<p class="soft">{_e(NOTHING.said(language))}</p>'
    older = (
        f'<p class="more"><a rel="next" href="{_e(listed.older)}">{_e(OLDER.said(language))}</a></p>'
        if listed.older
        else ""
    )
    body = (
        f'<section class="card"><div class="front"><h1>{_e(REGISTER.said(language))}</h1><hr class="rule">'
        f'<p class="amount">{_e(total)}</p>{scope}</div>{form}{shown}{older}</section>'
    )
    return _page(REGISTER.said(language), body, programme, language, "/certificates")


def _entry(certificate: Certificate, zone: ZoneInfo, language: Language) -> str:
    who = certificate.beneficiary.said(is_chinese=language is Language.ZH_CN)
    lang = urlencode({"lang": language})
    return (
        f'<li><a href="/certificates/{_e(certificate.number)}?{_e(lang)}">{_e(who)}</a>'
        f'<span class="amount">{_e(said_grams(certificate.grams, language))}</span>'
        f'<span class="soft">{_e(said_date(certificate.at, zone, language))} · {_e(certificate.number)}</span></li>'
    )


def missing_page(programme: Text, language: Language) -> str:
    """What is shown where there is no such certificate."""
    body = (
        f'<section class="card front"><h1>{_e(MISSING.said(language))}</h1><hr class="rule">'
        f"<p>{_e(MISSING_WHY.said(language))}</p></section>"
    )
    return _page(MISSING.said(language), body, programme, language, "/certificates")


def message_page(said: str, programme: Text, language: Language) -> str:
    """What is shown where something else is wrong."""
    body = f'<section class="card front"><p>{_e(said)}</p></section>'
    return _page(TITLE.said(language), body, programme, language, "/certificates")


def _page(title: str, body: str, programme: Text, language: Language, address: str) -> str:
    other, name = (Language.EN, "English") if language is Language.ZH_CN else (Language.ZH_CN, "中文")
    switch = f"{address}?{urlencode({'lang': other})}"
    register = f"/certificates?{urlencode({'lang': language})}"
    return (
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark">'
        f"<title>{_e(title)} · {_e(programme.said(language))}</title><style>{STYLE}</style></head><body>"
        f'<header><span class="name">{_e(programme.said(language))}</span><nav>'
        f'<a href="{_e(register)}">{_e(REGISTER.said(language))}</a>'
        f'<a href="{_e(switch)}" hreflang="{other}" lang="{other}">{name}</a></nav></header>'
        f"<main>{body}</main><footer>{_e(FOOT.said(language))}</footer></body></html>\n"
    )


def _list(facts: Iterable[Fact]) -> str:
    return f"<dl>{''.join(f'<dt>{_e(fact.name)}</dt><dd>{_e(fact.said)}</dd>' for fact in facts)}</dl>"


def _mono(text: str) -> str:
    return f'<span class="mono">{_e(text)}</span>'


def _e(text: str) -> str:
    return html.escape(text, quote=True)
