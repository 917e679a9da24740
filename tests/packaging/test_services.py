"""The systemd unit, the Containerfile and the Kubernetes example, as far as they run here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from configparser import ConfigParser
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import yaml

from lm_openai import resources
from lm_openai.app import metrics_server
from lm_openai.config import sources
from lm_openai.simulator import ADMIN_KEY, Simulator
from tests.support.paths import ROOT
from tests.support.systemd_units import settings, verify

UNIT = ROOT / "packaging/systemd/lm-openai.service"
CONTAINER = ROOT / "packaging/container"
IGNORED = shutil.ignore_patterns(".venv", ".git", ".floors", ".*_cache", "dist", "build")


def test_systemd_accepts_the_unit(tool: Callable[[str], str], tmp_path: Path) -> None:
    ConfigParser(strict=False, interpolation=None).read_string(UNIT.read_text())
    verify(tool, tmp_path, [UNIT], "/usr/bin/lm-openai", [UNIT.name])


def test_the_unit_serves_this_machine_with_a_credential() -> None:
    unit = settings(UNIT)
    (command,) = unit["ExecStart"]
    program, verb, flag, address = command.split()
    assert (program, verb, flag) == ("/usr/bin/lm-openai", "serve", "--listen")
    assert metrics_server.is_loopback(metrics_server.split(address)[0])
    name, _, path = unit["LoadCredential"][0].partition(":")
    environ = dict(pair.split("=", 1) for pair in unit["Environment"])
    found = {setting.name: setting.text for setting in sources.environment(environ)}
    assert found["openai.admin.key.file"] == f"%d/{name}"
    assert path in (UNIT.parent / "README.md").read_text()
    assert found["openai.cache.dir"].startswith(f"%C/{unit['CacheDirectory'][0]}/")
    assert (unit["DynamicUser"], unit["ProtectSystem"]) == (["yes"], ["strict"])


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Containerfile, each with its text on one line."""
    text = (CONTAINER / "Containerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines]


@pytest.fixture
def served(tmp_path: Path, outside: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Execute the Containerfile in a clean folder instead of /; return its command and ENV."""
    root = tmp_path / "root"
    (root / "var/cache").mkdir(parents=True)
    (root / "opt").mkdir()

    def inside(text: str) -> str:
        text = re.sub(r"(?<![\w.])/(src|opt|var)\b", rf"{root}/\1", text)
        return text.replace("65532:65532", f"{os.geteuid()}:{os.getegid()}")

    environ, words = dict[str, str](), list[str]()
    (root / "bin").mkdir()
    (root / "bin/python").symlink_to(sys.executable)
    paths = {**outside, "PATH": f"{root}/bin:{outside['PATH']}", "HOME": str(root)}
    for name, text in instructions():
        if name == "COPY":
            source, target = inside(text).split()
            shutil.copytree(ROOT / source, target, ignore=IGNORED)
        elif name == "RUN":
            subprocess.run(["sh", "-euc", inside(text)], env=paths, cwd=root, check=True)
        elif name == "ENV":
            variable, _, value = inside(text).partition("=")
            environ[variable] = value
        elif name in ("ENTRYPOINT", "CMD"):
            words += map(inside, json.loads(text))
    return words, environ


@pytest.mark.slow
def test_the_containerfile_serves_metrics(served: tuple[list[str], dict[str, str]]) -> None:
    words, environ = served
    assert not Path(words[0]).parents[2].joinpath("src").exists()
    words = [word.replace("0.0.0.0:9464", "127.0.0.1:0") for word in words]
    with Simulator(projects=2, models=4) as demo:
        given = {**environ, "OPENAI_BASE_URL": demo.url, "OPENAI_ADMIN_KEY": ADMIN_KEY}
        with subprocess.Popen(words, env=given, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            url = process.stderr.readline().split()[-1]
            page = urlopen(url, timeout=60).read().decode()
            process.terminate()
            assert process.wait(10) == 0
    success = re.findall(r"(?m)^openai_poll_success\{.*\} (\d)$", page)
    assert success == ["1"] * len(resources.folders())
    assert any(Path(environ["LM_OPENAI_CACHE_DIR"]).iterdir())


def test_the_image_has_a_user_and_names_its_port() -> None:
    found = dict(instructions())
    assert found["USER"] == "65532:65532"
    assert json.loads(found["CMD"])[-1] == f"0.0.0.0:{found['EXPOSE']}"


def test_the_kubernetes_example_names_the_right_ports_paths_and_key() -> None:
    documents = yaml.safe_load_all((CONTAINER / "kubernetes.yaml").read_text())
    kinds: dict[str, Any] = {document["kind"]: document for document in documents}
    template = kinds["Deployment"]["spec"]["template"]
    (container,) = template["spec"]["containers"]
    found = dict(instructions())
    port = {one["name"]: one["containerPort"] for one in container["ports"]}["metrics"]
    notes = template["metadata"]["annotations"]

    assert str(port) == found["EXPOSE"] == notes["prometheus.io/port"]
    assert container["args"] == json.loads(found["CMD"])
    assert notes["prometheus.io/path"] == "/metrics"
    for probe in ("livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"] == {"path": "/-/healthy", "port": "metrics"}
    environ = {one["name"]: one["value"] for one in container["env"]}
    path = {setting.name: setting.text for setting in sources.environment(environ)}
    (mount,) = container["volumeMounts"]
    (key,) = kinds["Secret"]["stringData"]
    assert path["openai.admin.key.file"] == f"{mount['mountPath']}/{key}"
    (volume,) = template["spec"]["volumes"]
    assert volume["secret"]["secretName"] == kinds["Secret"]["metadata"]["name"]
    assert volume["secret"]["defaultMode"] == 0o440
    user = str(template["spec"]["securityContext"]["runAsUser"])
    assert found["USER"].split(":")[0] == user
    labels = template["metadata"]["labels"]
    assert kinds["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    assert kinds["Deployment"]["spec"]["selector"]["matchLabels"] == labels
