"""Everything but the long description is in setup.cfg."""

import re
from pathlib import Path

from setuptools import setup


def long_description(readme: str) -> str:
    """README.rst as a package index can show it: without what only the source tree has.

    Relative links become their text, and pictures of the source tree are left out.
    """
    readme = re.sub(
        r"^\.\. (?:image|figure):: (?!https?://).*\n(?:[ \t]+\S.*\n)*", "", readme, flags=re.M
    )
    return re.sub(r"`([^`<]+?)\s*<(?!https?://|mailto:|#)[^>`]+>`__?", r"\1", readme)


setup(
    long_description=long_description((Path(__file__).parent / "README.rst").read_text("utf-8")),
    long_description_content_type="text/x-rst",
)
