"""The READMEs: their code blocks, commands, links and anchors."""

import re

from tests.support.launched import ROOT

FIRST = ROOT / "README.md"
PAGES = {
    path: path.read_text(encoding="utf-8")
    for path in (
        FIRST,
        ROOT / "search_spaces" / "README.md",
        ROOT / "study" / "README.md",
        ROOT / "models" / "README.md",
        ROOT / ".cluster" / "README.md",
        ROOT / "tests" / "benchmarks" / "README.md",
    )
}
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    """Text of every fenced block of a language, without duplicates, in the order of the pages."""
    found = [
        text for page in PAGES.values() for name, text in _FENCED.findall(page) if name == language
    ]
    return list(dict.fromkeys(found))


def marked() -> dict[str, str]:
    """Mark, such as `<!-- own-code -->` -> the block below it. tests/test_own_code.py runs them."""
    page = "\n".join(PAGES.values())
    found = re.findall(r"^<!-- (own-\w+) -->\n```\w*\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return dict(found)


def commands() -> list[str]:
    """Every command in the shell blocks, without its comment and without duplicates."""
    lines = [
        re.split(r"\s+# ", line)[0].strip() for block in blocks("") for line in block.splitlines()
    ]
    programs = (
        "iresnet-study ", "python ", "python3 ", "mlflow ", "ray ", "uv ", "(umask", "export ",
    )  # fmt: skip
    return list(dict.fromkeys(line for line in lines if line.startswith(programs)))


def links(page: str) -> list[str]:
    """Targets of the links and pictures of a page."""
    return re.findall(r"\]\(([^)\s]+)\)", _FENCED.sub("", page))


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", _FENCED.sub("", page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
