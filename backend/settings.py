"""Every setting of a deployment in one typed place, read from ``TANHUI_*`` environment variables."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Environment(StrEnum):
    """``dev`` prints tokens and shows the schema; ``prod`` does neither."""

    DEV = "dev"
    PROD = "prod"


class Settings(BaseSettings):
    """What differs between deployments. An unset server URL means: start an embedded one."""

    model_config = SettingsConfigDict(env_prefix="TANHUI_", frozen=True, extra="forbid")

    env: Environment = Environment.DEV
    mongodb_url: str | None = None
    valkey_url: str | None = None
    database: str = Field(default="tanhui", pattern=r"^[a-z][a-z0-9_]{0,37}$")
    data_dir: Path = Path(".tanhui")
    programme: str = "zhenjiang"
    max_body_bytes: int = Field(default=1_048_576, ge=1_024)
    settle_lanes: int = Field(default=2, ge=1, le=64)
    conversion_batch: int = Field(default=500, ge=1, le=2_000)
    public_url: str | None = Field(default=None, pattern=r"^https?://[^/\s?#]+$")
    """Where everybody reaches this programme, as certificates print it. In production it must be set: otherwise
    whoever asks would say what is printed; in development it is where they reached it."""
    sweep_after_ms: int = Field(default=2_000, ge=100)

    @model_validator(mode="after")
    def _public(self) -> Self:
        if self.env is Environment.PROD and self.public_url is None:
            message = "TANHUI_PUBLIC_URL must be set where TANHUI_ENV=prod: certificates print it"
            raise ValueError(message)
        return self

    @property
    def keys_dir(self) -> Path:
        """Where signing and look-up keys are kept."""
        return self.data_dir / "keys"
