"""Turn a page's MyST into the plain Markdown that every notebook program shows.

Directives become paragraphs, quotes, images and code; roles become text and links to the site. What
is not known here is an error, so that nothing reaches a notebook half translated.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass

import yaml

FENCE = re.compile(r"^(?P<indent>\s*)(?P<fence>`{3,}|~{3,}|:{3,})(?P<rest>.*)$")
DIRECTIVE = re.compile(r"^\{(?P<name>[\w:-]+)\}\s*(?P<argument>.*)$")
INLINE = re.compile(
    r"\{(?P<role>[\w:-]+)\}(?P<ticks>`+)(?P<body>.+?)(?P=ticks)(?!`)"
    r"|(?P<code>`+)(?!`).+?(?<!`)(?P=code)(?!`)"
    r"|(?P<link>!?\[[^\]]*\])\((?P<target>[^)\s]+)\)",
    re.S,
)
TITLED = re.compile(r"^(?P<text>.*?)\s*<(?P<target>[^>]+)>$", re.S)
MATH_LABEL = re.compile(r"^(\s*\$\$)\s*\([\w:-]+\)\s*$")
ATTRIBUTES = re.compile(r"^\s*\{[#.][^}]*\}\s*$")
TARGET = re.compile(r"^\([\w:-]+\)=\s*$")
NUMBERED = re.compile(r"%s|\{number\}")

ASIDES = ("note", "tip", "hint", "important", "warning", "caution", "danger", "attention",
          "seealso", "admonition")  # fmt: skip
HEADED = ("dropdown", "tab-item", "card", "grid-item-card", "rubric", "topic")
BARE = ("tab-set", "grid", "grid-item", "margin", "sidebar", "div", "container", "card-footer",
        "epigraph", "pull-quote", "glossary", "table")  # fmt: skip
DROPPED = ("toctree", "tableofcontents", "contents", "bibliography", "index", "glue", "glue:any",
           "glue:text", "page-status")  # fmt: skip
ANSWER = "<!-- the answer goes here -->"  # below each exercise; a notebook puts a code cell there


class NotPlain(Exception):
    """MyST that has no plain form here; the message says which."""


@dataclass(frozen=True)
class Links:
    """What a page's references lead to, asked by name.

    reference and document return an address and a text; image an address; number what the site
    prints for a numbered thing; citation a text; glued an executed value; quote some source code.
    """

    reference: Callable[[str], tuple[str, str]]
    document: Callable[[str], tuple[str, str]]
    term: Callable[[str], str]
    image: Callable[[str], str]
    number: Callable[[str], tuple[str, str]]
    citation: Callable[[str, bool], str]
    glued: Callable[[str], str]
    quote: Callable[[str, str | None], str]


@dataclass(frozen=True)
class Directive:
    """One directive, taken apart."""

    name: str
    argument: str
    options: dict[str, str]
    body: list[str]


def convert(text: str, links: Links) -> str:
    """A piece of MyST as plain Markdown."""
    lines = _blocks(text.splitlines(), links)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _blocks(lines: list[str], links: Links) -> list[str]:
    """Convert lines, block by block."""
    out, prose, at = [], [], 0

    def flush() -> None:
        out.extend(inline("\n".join(_prose_lines(prose)), links).split("\n"))
        prose.clear()

    while at < len(lines):
        fence = FENCE.match(lines[at])
        if fence is None:
            prose.append(lines[at])
            at += 1
            continue
        flush()
        end = _closing(lines, at, fence["fence"])
        inner = textwrap.dedent("\n".join(lines[at + 1 : end])).split("\n")
        directive = DIRECTIVE.match(fence["rest"])
        if directive is None:
            out += lines[at : end + 1]  # code: verbatim
        else:
            made = _directive(_take_apart(directive, inner), links)
            out += ["", *(fence["indent"] + line if line else "" for line in made), ""]
        at = end + 1
    flush()
    return out


def _closing(lines: list[str], start: int, fence: str) -> int:
    """The line that closes the fence opened at start."""
    for at in range(start + 1, len(lines)):
        line = lines[at].strip()
        if len(line) >= len(fence) and set(line) == {fence[0]}:
            return at
    raise NotPlain(f"{lines[start].strip()!r} is never closed")


def _take_apart(match: re.Match, inner: list[str]) -> Directive:
    """Split a directive's options from its body."""
    options: dict[str, str] = {}
    at = 0
    if inner[0].strip() == "---":
        at = next(n for n, line in enumerate(inner[1:], 1) if line.strip() == "---") + 1
        options = yaml.safe_load("\n".join(inner[1 : at - 1])) or {}
    while at < len(inner) and (option := re.match(r"^:([\w-]+):\s*(.*)$", inner[at])):
        options[option[1]] = option[2]
        at += 1
    return Directive(match["name"], match["argument"].strip(), options, inner[at:])


def _directive(it: Directive, links: Links) -> list[str]:
    """One directive as plain Markdown."""
    if it.name in DROPPED:
        return []
    if it.name in LEAVES:
        return LEAVES[it.name](it, links)
    if it.name in ASIDES:
        title = it.argument or it.name.title()
        body = [*_title(title, links), *_blocks(it.body, links)]
        return [f"> {line}".rstrip() for line in body]
    if it.name in HEADED:
        return _title(it.argument, links) + _blocks(it.body, links)
    if it.name == "exercise":
        title = ": ".join(filter(None, ["Exercise", it.argument]))
        return [*_title(title, links), *_blocks(it.body, links), "", ANSWER]
    if it.name == "solution":  # closed until it is asked for
        body = _blocks(it.body, links)
        return ["<details><summary>Solution</summary>", "", *body, "", "</details>"]
    if it.name in BARE:
        title = it.argument if it.name in ("table", "sidebar") else ""
        return _title(title, links) + _blocks(it.body, links)
    raise NotPlain(f"the directive {{{it.name}}} has no plain form; add one to website/plain.py")


def _image(it: Directive, links: Links) -> list[str]:
    alt = inline(it.options.get("alt", ""), links)
    return [f"![{alt}]({links.image(it.argument)})", "", *_caption(it.body, links)]


def _glued_figure(it: Directive, links: Links) -> list[str]:
    """The caption alone: the figure itself appears where its cell runs."""
    return _caption(it.body, links)


def _preview(it: Directive, links: Links) -> list[str]:
    """The words alone, as one of a list."""
    return [f"* {inline(' '.join(it.body).strip(), links)}"]


def _math(it: Directive, links: Links) -> list[str]:
    return ["$$", *it.body, "$$"]


def _quoted(it: Directive, links: Links) -> list[str]:
    code = links.quote(it.argument, it.options.get("pyobject"))
    return ["```python", *code.split("\n"), "```"]


def _code(it: Directive, links: Links) -> list[str]:
    return [f"```{it.argument}", *it.body, "```"]


def _title(text: str, links: Links) -> list[str]:
    return [f"**{inline(text, links)}**", ""] if text else []


def _caption(body: list[str], links: Links) -> list[str]:
    """A figure's caption, in italics, and its legend."""
    text = inline("\n".join(_prose_lines(body)).strip(), links)
    caption, _, legend = text.partition("\n\n")
    whole = f"*{caption}*" if caption and "*" not in caption else caption
    return [whole, "", *legend.split("\n")]


def _list_table(it: Directive, links: Links) -> list[str]:
    """A list-table as a pipe table."""
    rows: list[list[str]] = []
    for line in it.body:
        if row := re.match(r"^\*\s+-\s*(.*)$", line):
            rows.append([row[1]])
        elif cell := re.match(r"^\s+-\s*(.*)$", line):
            rows[-1].append(cell[1])
        elif line.strip():
            rows[-1][-1] += " " + line.strip()
    rows = [[inline(cell, links) for cell in row] for row in rows]
    if not int(it.options.get("header-rows", 0)):
        rows.insert(0, [""] * len(rows[0]))
    table = [f"| {' | '.join(row)} |" for row in rows]
    return [table[0], "|" + " --- |" * len(rows[0]), *table[1:]]


def _prose_lines(lines: list[str]) -> list[str]:
    """Prose without labels, comments and attributes; definition lists as plain lists."""
    kept: list[str] = []
    for line in lines:
        if TARGET.match(line) or ATTRIBUTES.match(line) or line.startswith(("% ", "+++")):
            continue
        if re.match(r"^:\s+\S", line) and kept:
            term = kept.pop()
            kept += [f"* **{term}**: {line[1:].strip()}"]
        else:
            kept.append(MATH_LABEL.sub(r"\1", line))
    return kept


def inline(text: str, links: Links) -> str:
    """Convert roles and links; code stays as it is."""
    return INLINE.sub(lambda match: _inline(match, links), text)


def _inline(match: re.Match, links: Links) -> str:
    if match["code"]:
        return match[0]
    if match["role"]:
        return _role(match["role"], match["body"], links)
    target, image = match["target"], match["link"].startswith("!")
    if re.match(r"^[a-z]+:", target):
        return match[0]
    if image:
        address = links.image(target)
    elif target.partition("#")[0].endswith(".md"):
        address = links.document(target)[0]
    else:
        address, label = links.reference(target.lstrip("#"))
        if match["link"] == "[]":
            return f"[{label}]({address})"
    return f"{match['link']}({address})"


def _role(name: str, body: str, links: Links) -> str:
    """One role as plain Markdown."""
    titled = TITLED.match(body)
    text, target = (titled["text"], titled["target"]) if titled else ("", body)
    if name in ("ref", "doc"):
        address, title = (links.reference if name == "ref" else links.document)(target)
        return f"[{text or title}]({address})"
    if name in ("numref", "eq"):
        address, number = links.number(target)
        return f"[{NUMBERED.sub(number.split()[-1], text) if text else number}]({address})"
    if name == "term":
        return f"[{text or target}]({links.term(target)})"
    if name.startswith("cite"):
        return links.citation(target, name.endswith("t"))
    if name in ("glue:text", "glue", "glue:any"):
        return links.glued(body)
    if name == "math":
        return f"${body}$"
    if name in ("kbd", "code", "file", "download"):
        return f"`{text or target}`"
    if name in ("abbr", "sub", "sup"):
        tag = {"abbr": "{}", "sub": "<sub>{}</sub>", "sup": "<sup>{}</sup>"}[name]
        return tag.format(body.partition(" (")[0] if name == "abbr" else body)
    raise NotPlain(f"the role {{{name}}} has no plain form; add one to website/plain.py")


def python_object(source: str, name: str | None) -> str:
    """The source of one function, class or method (a.b) of a module, or all of it."""
    if name is None:
        return source.rstrip()
    body: list[ast.stmt] = ast.parse(source).body
    for part in name.split("."):
        node = next((n for n in body if getattr(n, "name", None) == part), None)
        if node is None:
            raise NotPlain(f"there is no {name} to quote")
        body = getattr(node, "body", [])
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
    lines = source.splitlines()[first - 1 : node.end_lineno]
    return textwrap.dedent("\n".join(lines))


# Directives that hold no other directives.
LEAVES = {
    "figure": _image,
    "image": _image,
    "glue:figure": _glued_figure,
    "preview": _preview,
    "math": _math,
    "literalinclude": _quoted,
    "code-block": _code,
    "code": _code,
    "sourcecode": _code,
    "list-table": lambda it, links: _title(it.argument, links) + _list_table(it, links),
}
