"""A DataSource starts the same way from every kind of installation, in paths with spaces."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from glob import glob
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from lm_openai.simulator import ADMIN_KEY, Simulator
from tests.support.checkout import copy_checkout
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

FOLDER = "completion_by_model"
SCRIPT = f"{FOLDER}.py"
AT, NOON = 1_763_985_600, "2025-11-24T12:00:00Z"
MARK = "0.1.0+copy"
WAYS = ("checkout", "symlink", "wheel", "editable", "deb", "pyz")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("a place with spaces")


@pytest.fixture(scope="module")
def copy(place: Path) -> Path:
    """Copy the checkout, with a version that no other installed lm-openai has."""
    copy_checkout(place / "check out")
    module = place / "check out" / "lm_openai" / "__init__.py"
    module.write_text(module.read_text().replace("0.1.0", MARK))
    return place / "check out"


@pytest.fixture(scope="module")
def checkout(copy: Path) -> list[str]:
    return [sys.executable, str(copy / "modules" / FOLDER / SCRIPT)]


@pytest.fixture(scope="module")
def symlink(copy: Path, place: Path) -> list[str]:
    """Create a plugin folder with a link to a link, as update-alternatives does."""
    plugins = place / "plug ins"
    plugins.mkdir()
    (plugins / "first").symlink_to(copy / "modules" / FOLDER / SCRIPT)
    (plugins / "check_openai").symlink_to("first")
    return [sys.executable, str(plugins / "check_openai")]


@pytest.fixture(scope="module")
def built_wheel(copy: Path, place: Path, outside: Mapping[str, str]) -> Path:
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    run([*pip, "--wheel-dir", str(place / "wheels"), str(copy)], outside)
    return next((place / "wheels").glob("*.whl"))


@pytest.fixture(scope="module")
def wheel(built_wheel: Path, place: Path, outside: Mapping[str, str]) -> list[str]:
    return installed(place / "wheel environment", outside, str(built_wheel))


@pytest.fixture(scope="module")
def editable(copy: Path, place: Path, outside: Mapping[str, str]) -> list[str]:
    return installed(place / "editable environment", outside, "--editable", str(copy))


@pytest.fixture(scope="module")
def deb(copy: Path, place: Path, tool: Callable[[str], str]) -> list[str]:
    """Unpack the package into a folder instead of the root."""
    unpack = tool("dpkg-deb")
    package = run([sys.executable, str(copy / "packaging/deb.py")]).strip()
    run([unpack, "--extract", package, str(place / "deb root")])
    return [sys.executable, str(place / "deb root/usr/lib/lm-openai" / SCRIPT)]


@pytest.fixture(scope="module")
def archive(copy: Path, outside: Mapping[str, str]) -> str:
    return run([sys.executable, str(copy / "packaging/pyz.py")], outside).strip()


@pytest.fixture(scope="module")
def pyz(archive: str) -> list[str]:
    """Start the file without site-packages, so that only its own modules can be imported."""
    return [sys.executable, "-I", "-S", archive, FOLDER]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> list[str]:
    """Return the command line of one way to start the DataSource."""
    command: list[str] = request.getfixturevalue(request.param)
    return command


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator(at=AT) as simulator:
        yield simulator


@pytest.fixture
def keyed(simulator: Simulator, home: Path) -> dict[str, str]:
    """Return the environment of an agent that has the demo organization's key."""
    return {**os.environ, "OPENAI_ADMIN_KEY": ADMIN_KEY, "OPENAI_BASE_URL": simulator.url}


def test_every_way_runs_the_code_that_it_installed(way: list[str]) -> None:
    assert run([*way, "--version"]) == f"lm-openai {MARK}\n"


def test_every_way_prints_help(way: list[str]) -> None:
    text = run([*way, "--help"])

    assert "OpenAI Completion By Model" in text
    assert "--properties FILE" in text


def test_every_way_prints_the_same_document(
    way: list[str], checkout: list[str], keyed: dict[str, str]
) -> None:
    report = poll(way, keyed)

    assert report["datasource"]["folder"] == FOLDER
    assert report["instances"]
    assert report == poll(checkout, keyed)


def test_the_pyz_runs_on_every_installed_python(
    archive: str, checkout: list[str], keyed: dict[str, str], outside: Mapping[str, str]
) -> None:
    pythons = interpreters(outside)

    assert len(pythons) >= 2 or outside.get("CI") != "true", "only one Python >= 3.10 is installed"
    for python in pythons:
        assert poll([python, "-I", "-S", archive, FOLDER], keyed) == poll(checkout, keyed), python


def test_every_installation_has_the_command_lm_openai(
    wheel: list[str], editable: list[str], deb: list[str], archive: str
) -> None:
    beside = [str(Path(python).with_name("lm-openai")) for python in (wheel[0], editable[0])]
    packaged = [sys.executable, str(Path(deb[1]).parents[2] / "bin/lm-openai")]

    for command in (beside[:1], beside[1:], packaged, [sys.executable, "-I", "-S", archive]):
        assert run([*command, "--version"]) == f"lm-openai {MARK}\n", command


def test_the_wheel_contains_every_module_definition_and_schema(
    built_wheel: Path, copy: Path
) -> None:
    tree = {
        str(path.relative_to(copy)).removeprefix("lm_openai/")
        for folder in ("lm_openai", "modules", "schemas")
        for path in (copy / folder).rglob("*.*")
        if path.suffix in {".py", ".json", ".typed"} and "testdata" not in path.parts
    }
    with ZipFile(built_wheel) as packed:
        contained = {
            name.removeprefix("lm_openai/")
            for name in packed.namelist()
            if name.startswith("lm_openai/")
        }

    assert contained == tree


def test_a_wheel_installs_a_script_for_each_datasource(wheel: list[str], copy: Path) -> None:
    scripts = {path.name for path in Path(wheel[0]).parent.glob("*.py")}

    assert scripts == {f"{path.parent.name}.py" for path in datasources(copy)}


def test_pip_compiles_the_module_that_a_script_starts(wheel: list[str]) -> None:
    installed = Path(wheel[0]).parent.parent.glob(f"lib/python3*/site-packages/*/modules/{FOLDER}")

    assert list(next(installed).glob(f"__pycache__/{FOLDER}.*.pyc"))


def test_each_script_calls_start_before_any_other_import() -> None:
    heads = {path.stem: head(path) for path in datasources(ROOT)}

    assert heads == {folder: head(ROOT / "modules" / FOLDER / SCRIPT, folder) for folder in heads}


def test_scripts_are_executable() -> None:
    assert [path.name for path in datasources(ROOT) if not os.access(path, os.X_OK)] == []


def test_the_pyz_reports_a_python_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "packaging")
    import pyz

    monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    with pytest.raises(SystemExit, match=r"lm-openai needs Python 3\.10 or newer, this is \d"):
        exec(pyz.START.format(folders=(FOLDER,)))


def test_the_script_of_a_new_folder_is_added_and_of_a_removed_one_deleted(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "packaging")
    import shims

    for name in ("packaging", "modules"):
        shutil.copytree(copy / name, tmp_path / name)
    shutil.copy(copy / "setup.cfg", tmp_path)
    (tmp_path / "modules" / FOLDER).rename(tmp_path / "modules/renamed")
    (tmp_path / f"modules/renamed/{FOLDER}.json").rename(tmp_path / "modules/renamed/renamed.json")
    texts = shims.wanted(tmp_path)

    assert texts[tmp_path / "packaging/bin" / SCRIPT] is None
    assert 'main("renamed")' in str(texts[tmp_path / "packaging/bin/renamed.py"])
    assert "packaging/bin/renamed.py" in str(texts[tmp_path / "setup.cfg"])
    assert f"packaging/bin/{SCRIPT}" not in str(texts[tmp_path / "setup.cfg"])


def run(command: list[str], environ: Mapping[str, str] | None = None) -> str:
    """Run a command in another folder and return its stdout; fails with its output on an error."""
    done = subprocess.run(
        command, env=environ, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def poll(command: list[str], environ: Mapping[str, str]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(run([*command, "--at", NOON], environ))
    return document


def installed(environment: Path, outside: Mapping[str, str], *what: str) -> list[str]:
    """Install `what` in a new environment, which uses this one's libraries through a .pth file."""
    run([sys.executable, "-m", "venv", "--without-pip", str(environment)])
    site = next(environment.glob("lib/python3*/site-packages"))
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = str(environment / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--ignore-installed"]
    run([*pip, *what], outside)
    return [python, str(environment / "bin" / SCRIPT)]


def datasources(root: Path) -> list[Path]:
    """Return the script of each DataSource in a checkout."""
    return [path.with_suffix(".py") for path in root.glob("modules/*/*.json") if named(path)]


def named(path: Path) -> bool:
    return path.stem == path.parent.name


def head(path: Path, renamed: str = "") -> list[str]:
    """Return a script's first line and first two statements, with its folder name replaced."""
    text = path.read_text().replace(path.stem, renamed or path.stem)
    body = ast.parse(text).body
    return [text.splitlines()[0], *(ast.unparse(node) for node in body[1:3])]


def interpreters(outside: Mapping[str, str]) -> list[str]:
    """Return the path of one Python per version, from 3.10 on, that starts."""
    pyenv = outside.get("PYENV_ROOT", os.path.join(outside.get("HOME", "/"), ".pyenv"))
    folders = [*outside["PATH"].split(os.pathsep), "/usr/bin", f"{pyenv}/versions/*/bin"]
    found = [path for folder in folders for path in glob(f"{folder}/python3.[0-9][0-9]")]
    return list(
        {version(path): path for path in (sys.executable, *found) if version(path)}.values()
    )


def version(python: str) -> str:
    """Return the version of a Python, "" if it is too old or does not start."""
    code = "import sys; print(sys.version if sys.version_info >= (3, 10) else '')"
    done = subprocess.run([python, "-I", "-S", "-c", code], capture_output=True, text=True)
    return done.stdout.strip()
