"""Search in English and Korean at once.

Sphinx cuts a text where there are spaces, so the Korean for "of temperature" would be one word, and
"temperature" alone would not be found. Here a run of Hangul is indexed, and asked for, as all pairs
of neighbouring syllables. A question loses its particle first. Other words are English ones.

The glossary's Korean words lead to their entries.
"""

from __future__ import annotations

import re

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.search.en import SearchEnglish
from sphinx.transforms import SphinxTransform

PARTICLES = (  # the long ones first
    "으로|에서|에게|까지|부터|보다|처럼|이나|이란|은|는|이|가|을|를|의|에|로|와|과|도|만|란|들"
)
KOREAN = re.compile(r"\(([^()]*[가-힣][^()]*)\)")
RUNS = re.compile(r"[가-힣]+|[^\W가-힣]+")


def pairs(run: str) -> list[str]:
    """A run of Hangul as pairs of syllables; one syllable alone as itself."""
    return [run[at : at + 2] for at in range(len(run) - 1)] or [run]


class SearchBoth(SearchEnglish):
    """English, with Hangul in pairs of syllables."""

    lang = "both"
    language_name = "English and Korean"
    js_splitter_code = """
const particles = new RegExp("(?<=[가-힣]{2})(?:PARTICLES)$");
function splitQuery(query) {
  const runs = query.match(/[가-힣]+|(?:(?![가-힣])[\\p{L}\\p{N}_])+/gu) || [];
  const long = runs.filter((run) => run.length > (/[가-힣]/.test(run) ? 1 : 2));
  return (long.length ? long : runs).flatMap((run) => {
    if (!/[가-힣]/.test(run)) return [run];
    const stem = run.replace(particles, "");
    if (stem.length < 2) return [stem];
    return Array.from({ length: stem.length - 1 }, (_, at) => stem.slice(at, at + 2));
  });
}
""".replace("PARTICLES", PARTICLES)

    def split(self, input: str) -> list[str]:
        """The words of a text."""
        return [
            word
            for run in RUNS.findall(input)
            for word in (pairs(run) if "가" <= run[0] <= "힣" else [run])
        ]


class KoreanTerms(SphinxTransform):
    """Index a glossary's entries by the Korean that stands in brackets at their beginning."""

    default_priority = 500  # before the domains collect what is indexed

    def apply(self) -> None:
        """Add an entry of the index to each term that has one."""
        for item in list(self.document.findall(nodes.definition_list_item)):
            term = next(item.findall(nodes.term))
            found = KOREAN.match(item[-1].astext())
            if found and term["ids"]:
                entry = ("single", found[1], term["ids"][0], "", None)
                term.append(addnodes.index(entries=[entry]))


def setup(app: Sphinx) -> dict:
    """Add the language, which _config.yml names, and the Korean terms."""
    app.add_search_language(SearchBoth)
    app.add_transform(KoreanTerms)
    return {"version": "1", "parallel_read_safe": True}
