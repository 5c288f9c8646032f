"""Write docs/long_description.txt: README.rst as a package index can show it.

python docs/long_description.py
"""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parent


def long_description(readme: str) -> str:
    """README.rst without what only the source tree has.

    Relative links become their text, and pictures of the source tree are left out.
    """
    readme = re.sub(
        r"^\.\. (?:image|figure):: (?!https?://).*\n(?:[ \t]+\S.*\n)*", "", readme, flags=re.M
    )
    return re.sub(r"`([^`<]+?)\s*<(?!https?://|mailto:|#)[^>`]+>`__?", r"\1", readme)


if __name__ == "__main__":
    readme = (DOCS.parent / "README.rst").read_text("utf-8")
    (DOCS / "long_description.txt").write_text(long_description(readme), "utf-8")
