"""Makes the README fit for a package index: relative links and images become absolute.

`python tools/index_readme.py URL REF < README.md`, where URL is the repository's address and REF the commit or tag. The
release workflow does this before it builds. Only there is the address known.
"""

import re
import sys

RELATIVE = re.compile(r"(!?)(\[[^\]]*\])\((?!https?://|#)([^)\s]+)\)")


def absolute_links(text: str, url: str, ref: str) -> str:
    """The Markdown text with every relative link and image under URL at REF."""

    def absolute(match: re.Match[str]) -> str:
        image, label, path = match.groups()
        return f"{image}{label}({url.rstrip('/')}/{'raw' if image else 'blob'}/{ref}/{path})"

    return RELATIVE.sub(absolute, text)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} URL REF < README.md")
    sys.stdout.write(absolute_links(sys.stdin.read(), *sys.argv[1:]))
