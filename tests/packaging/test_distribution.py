"""Source distribution and wheel: their contents, and their page on a package index."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from email.message import Message
from email.parser import BytesParser
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.support.checkout import copy_checkout
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

RELATIVE_LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#]+)")


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory, outside: Mapping[str, str]) -> Path:
    """Build sdist and wheel from a copy of the checkout; return their folder."""
    place = tmp_path_factory.mktemp("distribution")
    source = copy_checkout(place / "checkout")
    command = [sys.executable, "-m", "build", "--outdir", str(place / "dist"), str(source)]
    built = subprocess.run(command, env=dict(outside), capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return place / "dist"


@pytest.fixture(scope="module")
def sdist(distributions: Path) -> set[str]:
    """Return the names of the files in the sdist, without its top folder."""
    (path,) = distributions.glob("*.tar.gz")
    with tarfile.open(path) as packed:
        return {name.partition("/")[2] for name in packed.getnames()}


@pytest.fixture(scope="module")
def wheel(distributions: Path) -> Iterator[ZipFile]:
    (path,) = distributions.glob("*.whl")
    with ZipFile(path) as packed:
        yield packed


@pytest.fixture(scope="module")
def metadata(wheel: ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return BytesParser().parsebytes(wheel.read(name))


def test_twine_accepts_both_distributions(distributions: Path) -> None:
    files = sorted(map(str, distributions.iterdir()))
    command = [sys.executable, "-m", "twine", "check", "--strict", *files]
    checked = subprocess.run(command, capture_output=True, text=True)

    assert len(files) == 2
    assert checked.returncode == 0, checked.stdout


def test_the_sdist_contains_every_file_that_its_pages_link_to(sdist: set[str]) -> None:
    pages = [page for page in ROOT.glob("*.md") if page.name in sdist]
    targets = {
        target.rstrip("/") for page in pages for target in RELATIVE_LINK.findall(page.read_text())
    }

    assert {"README.md", "ARCHITECTURE.md", "SECURITY.md"} <= {page.name for page in pages}
    assert len(targets) > len(list(ROOT.glob("modules/*/*.json"))) / 3
    assert targets - sdist == set()


def test_the_description_on_the_package_index_has_no_dead_link(metadata: Message) -> None:
    description = str(metadata.get_payload())

    assert "lm-openai doctor" in description
    assert RELATIVE_LINK.findall(description) == []


def test_the_metadata_names_author_keywords_and_python_versions(metadata: Message) -> None:
    classifiers = metadata.get_all("Classifier") or []
    versions = {entry.rpartition(" :: ")[2] for entry in classifiers if ":: 3." in entry}

    assert metadata["Author-email"]
    assert "openai" in metadata["Keywords"]
    assert "3.10" in versions
    assert metadata["Requires-Python"] == ">=3.10"


def test_the_wheel_is_typed_and_contains_no_tests(wheel: ZipFile) -> None:
    names = wheel.namelist()

    assert "lm_openai/py.typed" in names
    assert not [name for name in names if name.startswith("tests/") or "testdata" in name]
