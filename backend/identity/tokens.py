"""Signed access tokens: Ed25519 JWTs that name a principal. One algorithm is accepted, whatever a header asks for."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from backend.identity.errors import UnauthenticatedError
from backend.identity.model import NAME, Principal, PrincipalKind, StaffRole
from backend.kernel.errors import Text
from backend.kernel.ids import new_id

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from backend.kernel.clock import Clock

ALGORITHM = "EdDSA"
AUDIENCE = "tanhui"
LEEWAY = timedelta(seconds=30)
MAX_TOKEN_CHARS = 4_096
INVALID = Text("令牌无效", "token invalid")
REQUIRED_CLAIMS = ["iss", "aud", "sub", "kind", "iat", "nbf", "exp", "jti"]


class Tokens:
    """Issues and reads the tokens of one programme."""

    def __init__(self, key: Ed25519PrivateKey, *, issuer: str, clock: Clock) -> None:
        self._key = key
        self._public = key.public_key()
        self._issuer = issuer
        self._clock = clock
        raw = self._public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        self._key_id = hashlib.sha256(raw).hexdigest()[:16]

    def issue(self, principal: Principal, lifetime: timedelta) -> str:
        """A token that speaks for ``principal`` from now on for ``lifetime``."""
        now = self._clock.now()
        claims: dict[str, Any] = {
            "iss": self._issuer,
            "aud": AUDIENCE,
            "sub": principal.id,
            "kind": principal.kind.value,
            "roles": sorted(principal.staff_roles),
            "iat": now,
            "nbf": now,
            "exp": now + lifetime,
            "jti": new_id("jti", now),
        }
        return jwt.encode(claims, self._key, algorithm=ALGORITHM, headers={"kid": self._key_id})

    def read(self, token: str) -> Principal:
        """The principal a valid token speaks for.

        Raises:
            UnauthenticatedError: expired, early, forged, of another issuer or audience, or no token at all.
        """
        if len(token) > MAX_TOKEN_CHARS:
            raise UnauthenticatedError(Text("令牌过长", "token too long"))
        now = self._clock.now().timestamp()
        try:
            # The library reads the machine's clock; ours is injected, so the two times are compared below.
            claims = jwt.decode(
                token,
                self._public,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=self._issuer,
                options={"require": REQUIRED_CLAIMS, "verify_exp": False, "verify_nbf": False, "verify_iat": False},
            )
            expires, starts = int(claims["exp"]), int(claims["nbf"])
            kind = PrincipalKind(claims["kind"])
            roles = frozenset(StaffRole(role) for role in claims.get("roles", ()))
            subject = claims["sub"]
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as error:
            raise UnauthenticatedError(INVALID) from error
        if now >= expires + LEEWAY.total_seconds():
            raise UnauthenticatedError(Text("令牌已过期", "token expired"))
        if now < starts - LEEWAY.total_seconds():
            raise UnauthenticatedError(Text("令牌尚未生效", "token not valid yet"))
        if not NAME.fullmatch(subject):
            raise UnauthenticatedError(INVALID)
        return Principal(kind, subject, roles, datetime.fromtimestamp(expires, UTC) + LEEWAY)
