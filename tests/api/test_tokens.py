"""Tokens: whatever is not a valid one of this programme is answered 401, and nothing is executed."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from backend.identity.model import Principal, PrincipalKind
from backend.identity.tokens import LEEWAY, Tokens
from backend.kernel.crypto import load_signing_key
from tests.api.documents import RECORD, ride
from tests.conftest import dump

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.runtime import Services
    from tests.api.client import Api

pytestmark = pytest.mark.anyio

ALICE = Principal(PrincipalKind.CITIZEN, "alice")
QUARTER = timedelta(minutes=15)
WHO = "{ viewer { kind } }"


def part(value: object) -> str:
    """One part of a token."""
    raw = value if isinstance(value, bytes) else orjson.dumps(value)
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


class Forge:
    """Makes tokens that differ from a valid one in one respect."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.key = load_signing_key(services.settings.keys_dir / "tokens.pem")
        now = int(services.clock.now().timestamp())
        self.claims: dict[str, Any] = {
            "iss": f"tanhui:{services.programme.code}",
            "aud": "tanhui",
            "sub": "alice",
            "kind": "citizen",
            "roles": [],
            "iat": now,
            "nbf": now,
            "exp": now + 900,
            "jti": "jti_1",
        }

    def signed(self, **changes: Any) -> str:
        """Rightly signed, with other claims; None leaves a claim out."""
        claims = {name: value for name, value in {**self.claims, **changes}.items() if value is not None}
        return jwt.encode(claims, self.key, algorithm="EdDSA")

    def of_another_key(self) -> str:
        """Signed by a key of somebody else."""
        tokens = Tokens(Ed25519PrivateKey.generate(), issuer=self.claims["iss"], clock=self.services.clock)
        return tokens.issue(ALICE, QUARTER)

    def without_signature(self) -> str:
        """Algorithm none."""
        return f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(self.claims)}."

    def by_public_key(self, encoding: Encoding, form: PublicFormat) -> str:
        """HS256 with the public key, which everybody may know, as the secret."""
        secret = self.key.public_key().public_bytes(encoding, form)
        body = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part(self.claims)}"
        return f"{body}.{part(hmac.new(secret, body.encode(), hashlib.sha256).digest())}"

    def tampered(self) -> str:
        """Another subject under the signature of alice's token."""
        head, _, signature = self.signed().split(".")
        return f"{head}.{part({**self.claims, 'sub': 'bob'})}.{signature}"

    def all(self) -> dict[str, tuple[str, str]]:
        """Every bad token by what is wrong with it, and the problem that is told."""
        seconds = int(LEEWAY.total_seconds())
        now = self.claims["iat"]
        return {
            "expired": (self.signed(iat=now - 900, nbf=now - 900, exp=now - seconds), "token expired"),
            "not yet valid": (self.signed(nbf=now + seconds + 2), "token not valid yet"),
            "of another key": (self.of_another_key(), "token invalid"),
            "algorithm none": (self.without_signature(), "token invalid"),
            "HS256 with the PEM": (
                self.by_public_key(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
                "token invalid",
            ),
            "HS256 with the raw key": (self.by_public_key(Encoding.Raw, PublicFormat.Raw), "token invalid"),
            "of another issuer": (self.signed(iss="tanhui:wuhan"), "token invalid"),
            "for another audience": (self.signed(aud="other"), "token invalid"),
            "tampered": (self.tampered(), "token invalid"),
            "unknown kind": (self.signed(kind="root"), "token invalid"),
            "unknown role": (self.signed(kind="staff", roles=["emperor"]), "token invalid"),
            "malformed subject": (self.signed(sub="alice\x00"), "token invalid"),
            **{
                f"no {claim}": (self.signed(**{claim: None}), "token invalid")
                for claim in self.claims
                if claim != "roles"
            },
            "garbage": ("garbage", "token invalid"),
            "three dots": ("...", "token invalid"),
            "a header nested 2,000 deep": (f"{part(b'[' * 2_000)}.{part(self.claims)}.AA", "token invalid"),
            "a megabyte": ("a" * 2**20, "token too long"),
        }


async def test_a_bad_token_is_answered_401_and_nothing_is_executed(api: Api, services: Services) -> None:
    before = await dump(services)
    for name, (token, problem) in Forge(services).all().items():
        answer = await api.post(RECORD, ride(), token=token)
        assert (name, answer.status, answer.body) == (
            name,
            401,
            {"errors": [{"message": f"sign in first ({problem})", "extensions": {"code": "UNAUTHENTICATED"}}]},
        )
        assert answer.headers["www-authenticate"] == "Bearer"
        # Not even what anybody may read is read under a bad token.
        assert (await api.post("{ programme { code } }", token=token)).status == 401
    assert await dump(services) == before


@pytest.mark.parametrize(
    "authorization", ["Basic YWxpY2U6eA==", "Bearer", "Bearer ", "bearer", "", "Digest x", "Bearer\t", "幂等".encode()]
)
async def test_another_scheme_is_answered_401(authorization: str | bytes, api: Api) -> None:
    answer = await api.post(WHO, headers={"authorization": authorization})  # type: ignore[dict-item]
    assert (answer.status, answer.code) == (401, "UNAUTHENTICATED")


async def test_the_refusal_is_told_in_the_readers_language(api: Api) -> None:
    answer = await api.post(WHO, token="garbage", language="zh-CN")  # noqa: S106 - no secret
    assert answer.refusal == ("UNAUTHENTICATED", "请先登录（令牌无效）")


async def test_a_token_is_valid_to_the_end_of_its_life_and_thirty_seconds(
    api: Api, services: Services, clock: Any, token_for: Callable[..., str]
) -> None:
    token = token_for("citizen", "alice", minutes=15)
    clock.current = clock.current.replace(microsecond=0)
    issued = clock.current
    for elapsed_s, status in ((0, 200), (900, 200), (929, 200), (931, 401)):
        clock.current = issued + timedelta(seconds=elapsed_s)
        assert ((await api.post(WHO, token=token)).status, elapsed_s) == (status, elapsed_s)


async def test_the_scheme_is_read_in_any_letters(api: Api, token_for: Callable[..., str]) -> None:
    token = token_for("partner", "metro")
    answer = await api.post(WHO, headers={"authorization": f"BEARER  {token} "})
    assert answer.result == {"kind": "PARTNER"}


async def test_the_forge_makes_valid_tokens_when_nothing_is_changed(api: Api, services: Services) -> None:
    answer = await api.post(WHO, token=Forge(services).signed())
    assert answer.result == {"kind": "CITIZEN"}
