"""Writes every file that is derived from the definitions; with --check it only names the stale."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0:1] = [str(ROOT / "packaging"), str(ROOT)]

import docs  # noqa: E402
import shims  # noqa: E402

TARGETS = (shims.wanted, docs.wanted)


def main(arguments: list[str]) -> int:
    """0 when nothing was stale, else 1 (with --check) or 0 after writing; 2 for wrong usage."""
    if arguments not in ([], ["--check"]):
        print("usage: generate.py [--check]", file=sys.stderr)
        return 2
    stale = {path: text for path, text in wanted().items() if current(path) != text}
    for path, text in sorted(stale.items()):
        word = "is stale: ./run generate writes it" if arguments else "written"
        print(f"{path.relative_to(ROOT)} {word}", file=sys.stderr)
        if not arguments:
            write(path, text)
    return int(bool(stale and arguments))


def wanted() -> dict[Path, str | None]:
    """Every derived file's text; None for one that is to go."""
    texts: dict[Path, str | None] = {}
    for target in TARGETS:
        texts.update(target(ROOT))
    return texts


def current(path: Path) -> str | None:
    """What stands there now."""
    return path.read_text() if path.exists() else None


def write(path: Path, text: str | None) -> None:
    """Put it there; what begins with `#!` can be run."""
    if text is None:
        path.unlink()
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    if text.startswith("#!"):
        path.chmod(0o755)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
