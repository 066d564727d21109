"""Write the files anew: ``python -m reference``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from reference.texts import write_texts

ROOT: Final = Path(__file__).resolve().parents[1]


def files() -> Mapping[Path, str]:
    """Give what each file has to hold."""
    return {ROOT / "clients" / "texts.json": write_texts()}


def main() -> None:
    """Write them."""
    for path, content in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
