"""The scripts of a wheel, one per folder in modules/, and their list in setup.cfg.

A wheel compiles its modules but not its scripts, so each script is two lines that start a module.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHIMS = "packaging/bin"


def folders(root: Path) -> list[str]:
    """The folder of every DataSource in a checkout, sorted."""
    return sorted(path.parent.name for path in root.glob("modules/*/*.json") if _names_folder(path))


def wanted(root: Path) -> dict[Path, str | None]:
    """Each file's text as the folders ask for it; None for a shim whose DataSource is gone."""
    setup = root / "setup.cfg"
    texts: dict[Path, str | None] = dict.fromkeys((root / SHIMS).glob("*"))
    texts.update({root / SHIMS / f"{folder}.py": shim(folder) for folder in folders(root)})
    texts[setup] = _listed(setup.read_text(), folders(root))
    return texts


def shim(folder: str) -> str:
    """The script that a wheel carries for one DataSource; pip writes its first line."""
    return f'#!python\nfrom lm_openai.start import main\n\nmain("{folder}")\n'


def _names_folder(path: Path) -> bool:
    return path.stem == path.parent.name


def _listed(setup: str, names: list[str]) -> str:
    scripts = "".join(f"    {SHIMS}/{name}.py\n" for name in names)
    return re.sub(r"(?m)^scripts =\n(?: .*\n)*", f"scripts =\n{scripts}", setup)
