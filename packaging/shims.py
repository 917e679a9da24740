"""Scripts of the wheel, one per folder in modules/, and their list in setup.cfg.

pip compiles the modules of a wheel but not its scripts, so each script only starts a module.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHIMS = "packaging/bin"


def folders(root: Path) -> list[str]:
    """Return the folder names of all DataSources in a checkout, sorted."""
    return sorted(path.parent.name for path in root.glob("modules/*/*.json") if _names_folder(path))


def wanted(root: Path) -> dict[Path, str | None]:
    """Return the text of each script and of setup.cfg; None for a script without a DataSource."""
    setup = root / "setup.cfg"
    texts: dict[Path, str | None] = dict.fromkeys((root / SHIMS).glob("*"))
    texts.update({root / SHIMS / f"{folder}.py": shim(folder) for folder in folders(root)})
    texts[setup] = _listed(setup.read_text(), folders(root))
    return texts


def shim(folder: str) -> str:
    """Return the script of one DataSource in the wheel; pip replaces its first line."""
    return f'#!python\nfrom lm_openai.start import main\n\nmain("{folder}")\n'


def _names_folder(path: Path) -> bool:
    return path.stem == path.parent.name


def _listed(setup: str, names: list[str]) -> str:
    scripts = "".join(f"    {SHIMS}/{name}.py\n" for name in names)
    return re.sub(r"(?m)^scripts =\n(?: .*\n)*", f"scripts =\n{scripts}", setup)
