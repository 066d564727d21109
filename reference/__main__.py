"""Write the files anew: ``python -m reference``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gateway.core.texts import Language
from reference.api import write_pages
from reference.contract import read_contract
from reference.reasons import write_reasons
from reference.texts import write_texts

ROOT: Final = Path(__file__).resolve().parents[1]


def files() -> Mapping[Path, str]:
    """Give what each file has to hold."""
    contract = read_contract()
    docs = ROOT / "docs"
    return {
        ROOT / "clients" / "texts.json": write_texts(),
        docs / "reasons.md": write_reasons(Language.EN, contract),
        docs / "reasons.zh-CN.md": write_reasons(Language.ZH, contract),
        **{docs / "api" / name: page for name, page in write_pages(contract).items()},
    }


def main() -> None:
    """Write them."""
    for path, content in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
