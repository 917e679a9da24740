"""Zabbix 6.0 on loopback: server, PostgreSQL, the frontend's API and an agent."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from getpass import getuser
from pathlib import Path
from random import randrange
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeVar
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from tests.hosts.conftest import free_ports

T = TypeVar("T")
SCHEMA = Path("/usr/share/zabbix-server-pgsql")
FRONTEND = Path("/usr/share/zabbix")
OWN_TEMPLATES = re.compile(
    r"INSERT INTO (?:valuemap|item|function|trigger|hostmacro|graphs|widget|hosts?_|hosts |lld_"
    r"|dashboard|group_prototype|interface|opgroup|optemplate|drules|dchecks|sysmap"
    r"|media_type|action|operations|opmessage|conditions)"
)
"""Rows of the initial data that describe Zabbix's own templates; the tests need none of them."""
DATABASE = "-c listen_addresses=127.0.0.1 -c fsync=off -c synchronous_commit=off"
SERVER = """ListenIP=127.0.0.1
ListenPort={server}
LogType=file
LogFile={folder}/server.log
PidFile={folder}/server.pid
SocketDir={folder}
DBHost=127.0.0.1
DBPort={database}
DBName=zabbix
DBUser=zabbix
DBPassword=zabbix
AllowRoot=1
ExternalScripts={folder}/external
AlertScriptsPath={folder}/alerts
CacheUpdateFrequency=1
HousekeepingFrequency=0
StartPollers=3
StartPreprocessors=1
StartPollersUnreachable=1
StartHistoryPollers=1
StartTrappers=1
StartPingers=0
StartDiscoverers=0
StartHTTPPollers=0
StartODBCPollers=0
StartEscalators=1
StartAlerters=1
StartTimers=1
StartLLDProcessors=1
StartDBSyncers=1
Timeout=30
"""
AGENT = """LogType=file
LogFile={folder}/agent.log
PidFile={folder}/agent.pid
ListenIP=127.0.0.1
ListenPort={agent}
Server=127.0.0.1
Hostname=openai
AllowRoot=1
StartAgents=3
Include={folder}/agent.d/*.conf
"""
SETTINGS = """<?php
$DB['TYPE']='POSTGRESQL'; $DB['SERVER']='127.0.0.1'; $DB['PORT']='{database}';
$DB['DATABASE']='zabbix'; $DB['USER']='zabbix'; $DB['PASSWORD']='zabbix';
$DB['SCHEMA']=''; $DB['ENCRYPTION']=false; $DB['DOUBLE_IEEE754']=true;
$ZBX_SERVER='127.0.0.1'; $ZBX_SERVER_PORT='{server}'; $ZBX_SERVER_NAME='';
$IMAGE_FORMAT_DEFAULT=IMAGE_FORMAT_PNG;
"""
RULES = {
    name: {"createMissing": True, "updateExisting": True}
    for name in (
        "templates",
        "items",
        "triggers",
        "discoveryRules",
        "valueMaps",
        "graphs",
        "templateDashboards",
    )
} | {"groups": {"createMissing": True}}


class Zabbix(NamedTuple):
    """Running Zabbix: the frontend's URL, an API session, its folder and the port of its agent.

    `folder` has `agent.d` with the agent's configuration, `external` with external checks, `alerts`
    with the scripts that send notifications.
    """

    url: str
    session: str
    folder: Path
    agent_port: int

    def call(self, method: str, **parameters: Any) -> Any:
        """Return the result of a method of the API; fails with its error."""
        return _call(self.url, method, parameters, self.session)

    def load(self, text: str) -> None:
        """Import a template as the frontend's page does."""
        self.call("configuration.import", format="json", source=text, rules=RULES)

    def poll(self, ids: Iterable[str]) -> None:
        """Execute items and discovery rules within 5 s, by their ids."""
        self.call("task.create", _=[{"type": 6, "request": {"itemid": one}} for one in ids])


@contextmanager
def zabbix(tool: Callable[[str], str], configure: Callable[[Path], None]) -> Iterator[Zabbix]:
    """Start Zabbix; `configure` writes the agent's files into its folder before it starts."""
    programs = [tool(name) for name in ("zabbix_server", "zabbix_agentd", "php", "psql")]
    # The user postgres has to reach it, and cannot enter pytest's folder of root.
    with TemporaryDirectory(prefix="zabbix-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o711)
        for part in ("agent.d", "external", "alerts"):
            (folder / part).mkdir()
        configure(folder)
        ports = {"server": low_port(), "agent": low_port()}
        ports |= dict(zip(("database", "web"), free_ports(2)))
        for text, path in ((SERVER, "server.conf"), (AGENT, "agent.conf")):
            (folder / path).write_text(text.format(folder=folder, **ports))
        stack.enter_context(_database(folder / "database", ports["database"], programs[3]))
        _frontend(folder / "frontend", ports)
        commands = {
            "server": [programs[0], "-f", "-c", str(folder / "server.conf")],
            "agent": [programs[1], "-f", "-c", str(folder / "agent.conf")],
            "php": [
                *(programs[2], "-S", f"127.0.0.1:{ports['web']}", "-t", str(folder / "frontend")),
                *("-d", "memory_limit=512M", "-d", "post_max_size=32M", "-d", "date.timezone=UTC"),
                *("-d", "max_execution_time=300", "-d", "max_input_time=300"),
                *("-d", "opcache.enable_cli=1", "-d", "error_reporting=E_ALL&~E_DEPRECATED"),
            ],
        }
        for program, command in commands.items():
            stack.enter_context(_running(command, folder / f"{program}.out"))
        url = f"http://127.0.0.1:{ports['web']}"
        yield Zabbix(url, _session(url, folder), folder, ports["agent"])


def low_port() -> int:
    """Return a free port that Zabbix accepts: they end at 32767."""
    for _ in range(100):
        port = randrange(20_000, 32_768)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise AssertionError("100 ports are taken")


def wait(look: Callable[[], T | None], seconds: float = 180, pause: float = 1) -> T:
    """Return the first result of `look` that is true; fails after that time."""
    for _ in range(int(seconds / pause)):
        found = look()
        if found:
            return found
        time.sleep(pause)
    raise AssertionError(f"nothing after {seconds} s: {found!r}")


def _call(url: str, method: str, parameters: dict[str, Any], session: str | None) -> Any:
    body = {"jsonrpc": "2.0", "method": method, "id": 1, "auth": session}
    body["params"] = parameters.pop("_", parameters)
    headers = {"Content-Type": "application/json-rpc"}
    request = Request(f"{url}/api_jsonrpc.php", json.dumps(body).encode(), headers)
    with urlopen(request, timeout=120) as response:
        found = json.load(response)
    assert "error" not in found, (method, found["error"])
    return found["result"]


def _session(url: str, folder: Path) -> str:
    """Return a session of the administrator, once the frontend responds."""
    user = {"username": "Admin", "password": "zabbix"}
    for _ in range(100):
        try:
            return str(_call(url, "user.login", dict(user), None))
        except URLError:
            time.sleep(0.1)
    pytest.fail(f"the frontend does not respond: {(folder / 'php.out').read_text()[-2000:]}")


@contextmanager
def _running(command: list[str], log: Path) -> Iterator[None]:
    with log.open("w") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        time.sleep(0.2)
        assert server.poll() is None, log.read_text()[-2000:]
        yield
    finally:
        server.terminate()
        server.wait(30)


@contextmanager
def _database(folder: Path, port: int, psql: str) -> Iterator[None]:
    """Run PostgreSQL with the tables and the initial rows of Zabbix, without its templates."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
    user: dict[str, Any] = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
    folder.mkdir()
    if user:
        shutil.chown(folder, "postgres", "postgres")
    settings: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL, "cwd": folder, **user}
    data = folder / "data"
    run = subprocess.run
    run(
        [str(programs / "initdb"), "-D", str(data), "-A", "trust", "-N", "--locale=C.UTF-8"],
        **settings,
    )
    control = [str(programs / "pg_ctl"), "-D", str(data), "-l", str(folder / "log"), "-w"]
    run([*control, "-o", f"-p {port} -k {folder} {DATABASE}", "start"], **settings)
    try:
        connect = [psql, "-q", "-h", "127.0.0.1", "-p", str(port)]
        role = "create role zabbix login superuser"
        run([*connect, "-U", user.get("user", getuser()), "-c", role, "postgres"], **settings)
        run([*connect, "-U", "zabbix", "-c", "create database zabbix", "postgres"], **settings)
        fill = [*connect, "-U", "zabbix", "-v", "ON_ERROR_STOP=1", "zabbix"]
        run(fill, **settings, input="".join(_rows()).encode())
        yield
    finally:
        run([*control, "-m", "fast", "stop"], **settings)


def _rows() -> Iterator[str]:
    yield "SET session_replication_role = replica; SET client_min_messages=warning; BEGIN;\n"
    yield gzip.decompress((SCHEMA / "schema.sql.gz").read_bytes()).decode()
    text = gzip.decompress((SCHEMA / "data.sql.gz").read_bytes()).decode()
    for statement in re.split(r"(?m)^(?=INSERT INTO |COMMIT)", text)[1:-1]:
        if not OWN_TEMPLATES.match(statement):
            yield statement
    yield "COMMIT;\n"


def _frontend(folder: Path, ports: dict[str, int]) -> None:
    """Copy the frontend, which reads its settings from one fixed path in its code."""
    shutil.copytree(FRONTEND, folder, ignore=shutil.ignore_patterns("locale"))
    settings = folder / "zabbix.conf.php"
    settings.write_text(SETTINGS.format(**ports))
    code = folder / "include/classes/core/CConfigFile.php"
    text = code.read_text()
    assert "'/etc/zabbix/zabbix.conf.php'" in text
    code.write_text(text.replace("/etc/zabbix/zabbix.conf.php", str(settings)))
