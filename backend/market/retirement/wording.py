"""What a certificate says to people, on paper and on its page: its words, facts and figures in one language. Pure."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from backend.kernel.errors import Language, Text
from backend.market.retirement.model import RetirementPurpose

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from backend.market.pooling.model import ActsSummary
    from backend.market.retirement.model import Certificate, CreditFacts
    from backend.market.serials.model import Ranges

G_PER_KG, G_PER_TONNE = 1_000, 1_000_000
SHOWN_RANGES, SHOWN_KINDS = 3, 5
FULL = 1_000
TITLE = Text("碳普惠减排量注销证书", "Certificate of Retirement")
SUBTITLE = Text("CERTIFICATE OF RETIREMENT", "碳普惠减排量注销证书")
CERTIFIES = Text("兹证明，为抵消", "This is to certify that, to make up for emissions of")
RETIRED = Text("的排放，下列减排量已于 {date} 永久注销", "the following reductions were retired for ever on {date}")
CO2E = Text("二氧化碳当量", "CO2e")
PURPOSES = {
    RetirementPurpose.EVENT: Text("活动碳中和", "neutrality of an event"),
    RetirementPurpose.PRODUCT: Text("产品碳中和", "neutrality of a product"),
    RetirementPurpose.FOOTPRINT: Text("抵消自身碳足迹", "own footprint"),
    RetirementPurpose.OTHER: Text("其他用途", "another purpose"),
}
NUMBER = Text("证书编号", "Certificate")
PURPOSE = Text("用途", "Purpose")
CREDIT_CODE = Text("统一社会信用代码", "Credit code")
BY = Text("注销人", "Retired by")
CREDIT = Text("减排量代码", "Credit")
PROJECT = Text("项目", "Project")
METHODOLOGY = Text("方法学", "Methodology")
VINTAGE = Text("减排年份", "Vintage")
VERIFIER = Text("核证机构", "Verifier")
REPORT = Text("核证报告 SHA-256", "Report SHA-256")
SERIALS = Text("序列号（每号 1 克）", "Serials (1 gram each)")
RANGES = Text("共 {count} 段：{first}", "{count} ranges: {first}")
ORIGIN = Text("减排来自", "Where they come from")
ACTS = Text("{acts} 次 · {grams}", "{acts} acts · {grams}")
ALL_ACTS = Text("共 {acts} 次低碳行为，{citizens} 位市民", "{acts} acts of {citizens} citizens in all")
MORE_KINDS = Text("其他 {count} 类", "{count} other kinds")
PERIOD = Text("行为期间", "Between")
TRANSACTION = Text("账本交易", "Transaction")
SEAL = Text("封存", "Seal")
SEALED = Text("区块 {height}，根 {root}", "block {height}, root {root}")
UNSEALED = Text("尚未封存，通常在一分钟内完成", "not sealed yet; this usually takes a minute")
SCAN = Text("扫码核验", "Scan to verify")
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


class Seal(NamedTuple):
    """The block that holds the retirement's transaction: its height and Merkle root (hex)."""

    height: int
    root: str


@dataclass(frozen=True, slots=True)
class Setting:
    """What is the same on all certificates: programme, names of kinds of acts, local time, the public address."""

    programme: Text
    kinds: Mapping[str, Text]
    zone: ZoneInfo
    url: str


class Fact(NamedTuple):
    """One line of facts."""

    name: str
    said: str


class Share(NamedTuple):
    """What acts of one kind gave; ``permille`` of the largest kind's grams."""

    name: str
    said: str
    permille: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A certificate in one language."""

    language: Language
    title: str
    subtitle: str
    programme: str
    number: Fact
    certifies: str
    beneficiary: str
    retired: str
    amount: str
    reason: str
    statement: str
    facts: tuple[Fact, ...]
    origin: str
    shares: tuple[Share, ...]
    acts: tuple[str, ...]
    proof: tuple[Fact, ...]
    scan: str
    url: str

    def texts(self) -> Iterator[str]:
        """Every text on it."""
        yield from _texts(dataclasses.astuple(self))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple | list):
        for inner in value:
            yield from _texts(inner)


def show(certificate: Certificate, setting: Setting, seal: Seal | None, language: Language) -> Shown:
    """The certificate in that language."""
    facts, acts = (certificate.origin.facts, certificate.origin.acts) if certificate.origin else (None, None)
    sealed = SEALED.said(language).format(height=seal.height, root=seal.root) if seal else UNSEALED.said(language)
    given = certificate.beneficiary
    reason = [f"{PURPOSE.said(language)}{_colon(language)}{PURPOSES[certificate.purpose].said(language)}"]
    for name, said in ((CREDIT_CODE, given.credit_code), (BY, certificate.owner_name)):
        reason += [f"{name.said(language)}{_colon(language)}{said}"] if said else []
    return Shown(
        language=language,
        title=TITLE.said(language),
        subtitle=SUBTITLE.said(language),
        programme=_both(setting.programme, language),
        number=Fact(NUMBER.said(language), certificate.number),
        certifies=CERTIFIES.said(language),
        beneficiary=given.said(is_chinese=language is Language.ZH_CN),
        retired=RETIRED.said(language).format(date=said_date(certificate.at, setting.zone, language)),
        amount=f"{said_grams(certificate.grams, language)} {CO2E.said(language)}",
        reason=" · ".join(reason),
        statement=certificate.statement,
        facts=_facts(certificate, facts, language),
        origin=ORIGIN.said(language),
        shares=_shares(acts, setting.kinds, language) if acts else (),
        acts=_acts(acts, setting.zone, language) if acts else (),
        proof=(Fact(TRANSACTION.said(language), certificate.transaction), Fact(SEAL.said(language), sealed)),
        scan=SCAN.said(language),
        url=f"{setting.url}/certificates/{certificate.number}",
    )


def _both(name: Text, language: Language) -> str:
    """A name in both languages, the reader's first."""
    names = name if language is Language.ZH_CN else name[::-1]
    return " · ".join(dict.fromkeys(names))


def _colon(language: Language) -> str:
    return "：" if language is Language.ZH_CN else ": "


def _facts(certificate: Certificate, facts: CreditFacts | None, language: Language) -> tuple[Fact, ...]:
    """What is known of the credit, then its serials."""
    rows = [(CREDIT, certificate.credit.partition(":")[2])]
    if facts is not None:
        rows += [
            (PROJECT, facts.project.said(language)),
            (
                METHODOLOGY,
                "、".join(facts.methodologies) if language is Language.ZH_CN else ", ".join(facts.methodologies),
            ),
            (VINTAGE, str(facts.vintage)),
            (VERIFIER, facts.verifier),
            (REPORT, facts.report),
        ]
    rows.append((SERIALS, said_serials(certificate.serials, language)))
    return tuple(Fact(name.said(language), said) for name, said in rows)


def _shares(acts: ActsSummary, names: Mapping[str, Text], language: Language) -> tuple[Share, ...]:
    shown = acts.kinds[:SHOWN_KINDS] if len(acts.kinds) > SHOWN_KINDS + 1 else acts.kinds
    rows = [
        (names[kind.kind].said(language) if kind.kind in names else kind.kind, kind.acts, kind.grams) for kind in shown
    ]
    rest = acts.kinds[len(shown) :]
    if rest:
        name = MORE_KINDS.said(language).format(count=len(rest))
        rows.append((name, sum(kind.acts for kind in rest), sum(kind.grams for kind in rest)))
    most = max((grams for _, _, grams in rows), default=0) or 1
    said = ACTS.said(language)
    return tuple(
        Share(name, said.format(acts=grouped(count), grams=said_grams(grams, language)), grams * FULL // most)
        for name, count, grams in rows
    )


def _acts(acts: ActsSummary, zone: ZoneInfo, language: Language) -> tuple[str, ...]:
    first, last = (said_date(moment, zone, language) for moment in (acts.first, acts.last))
    said = ALL_ACTS.said(language).format(acts=grouped(acts.acts), citizens=grouped(acts.citizens))
    return said, f"{PERIOD.said(language)} {first} – {last}"


def said_serials(serials: Ranges, language: Language) -> str:
    """The ranges of serials, or where there are many their number and the first of them."""
    first = ", ".join(f"{grouped(run.first)}–{grouped(run.last)}" for run in serials[:SHOWN_RANGES])
    count = len(serials)
    return RANGES.said(language).format(count=grouped(count), first=f"{first}…") if count > SHOWN_RANGES else first


def said_grams(grams: int, language: Language) -> str:
    """Grams as people say them, exactly: grams below a kilogram, kilograms below a tonne, tonnes."""
    is_chinese = language is Language.ZH_CN
    if grams < G_PER_KG:
        return f"{grams} {'克' if is_chinese else 'g'}"
    if grams < G_PER_TONNE:
        return f"{_decimal(grams, G_PER_KG, 3)} {'千克' if is_chinese else 'kg'}"
    return f"{_decimal(grams, G_PER_TONNE, 6)} {'吨' if is_chinese else 't'}"


def _decimal(amount: int, unit: int, digits: int) -> str:
    whole, rest = divmod(amount, unit)
    return f"{grouped(whole)}.{rest:0{digits}}".rstrip("0").rstrip(".") if rest else grouped(whole)


def grouped(number: int) -> str:
    """A number with its thousands apart."""
    return f"{number:,}"


def said_date(moment: datetime, zone: ZoneInfo, language: Language) -> str:
    """The local day of a moment."""
    day = moment.astimezone(zone)
    if language is Language.ZH_CN:
        return f"{day.year} 年 {day.month} 月 {day.day} 日"
    return f"{day.day} {MONTHS[day.month - 1]} {day.year}"
