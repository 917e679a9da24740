"""Write every file that is generated from the definitions; --check only lists stale files."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0:1] = [str(ROOT / "packaging"), str(ROOT)]

import docs  # noqa: E402
import hosts  # noqa: E402
import shims  # noqa: E402

TARGETS = (shims.wanted, docs.wanted, hosts.wanted)


def main(arguments: list[str]) -> int:
    """Return 0, or 1 if --check found a stale file, or 2 for wrong usage."""
    if arguments not in ([], ["--check"]):
        print("usage: generate.py [--check]", file=sys.stderr)
        return 2
    stale = {path: text for path, text in wanted().items() if current(path) != text}
    for path, text in sorted(stale.items()):
        word = "is stale: run ./run generate" if arguments else "written"
        print(f"{path.relative_to(ROOT)} {word}", file=sys.stderr)
        if not arguments:
            write(path, text)
    return int(bool(stale and arguments))


def wanted() -> dict[Path, str | None]:
    """Return the text of every generated file; None for a file to delete."""
    texts: dict[Path, str | None] = {}
    for target in TARGETS:
        texts.update(target(ROOT))
    return texts


def current(path: Path) -> str | None:
    """Return the file's present text; None if it does not exist."""
    return path.read_text() if path.exists() else None


def write(path: Path, text: str | None) -> None:
    """Write the file, or delete it for None; a text that begins with `#!` becomes executable."""
    if text is None:
        path.unlink()
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    if text.startswith("#!"):
        path.chmod(0o755)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
