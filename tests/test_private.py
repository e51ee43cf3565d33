"""Nothing that a page shows tells of the machine that made it."""

import getpass
import platform

import pytest
from books import ROOT, only, page_text, write

from website import execute, kernel, private

TOLD = {
    "the book's folder": (f"File {ROOT}/vlmbook/page.py, line 3", "the path"),
    "somebody's home": ("in /home/ann/models/clip", "the path /home/ann"),
    "a home on a Mac": ("open('/Users/ann/x.png')", "the path /Users/ann"),
    "a home on Windows": (r"C:\Users\ann\x.png", r"the path C:\Users\ann"),
    "a home that is abbreviated": ("File ~/models/clip.py:3", "the path ~/"),
    "a temporary folder": ("saved /tmp/tmpab12/out", "the path /tmp"),
    "a package": ("/usr/lib/python3/dist-packages/x.py:3: Warning", "the path /usr/lib"),
    "an address of a file": ("file:///home/ann/x.png", "the path /home/ann"),
    "the book's address": (f"file://{ROOT}/vlmbook/page.py", "the path"),
    "a warning": ("warning:/home/ann/x.py", "the path /home/ann"),
    "a list of folders": ("PATH=/a:/opt/ann/bin", "the path /opt/ann"),
    "a short path on Windows": ("c:/users/ann/x", "the path c:/users/ann"),
    "a short name in a path": ("//share/~kim/x", "the name kim"),
    "the user": ("made by annabel, today", "the name annabel"),
    "the machine": ("on anns-laptop.local", "the name anns-laptop"),
    "a token of the hub": ("hf_" + "a1B2" * 8, "a token"),
    "a token of GitHub": ("ghp_" + "a1B2" * 9, "a token"),
    "a token of a web service": ("sk-proj-" + "a1B2" * 6, "a token"),
    "a token of GitLab": ("glpat-" + "a1B2" * 6, "a token"),
    "a key": ("-----BEGIN RSA PRIVATE KEY-----", "a token"),
    "a secret of the environment": ("value: correct-horse-7", "a token"),
}
FINE = (
    "CLIP/ViT-B/32 and openai/clip-vit-base-patch32, and/or a tmp/ folder",
    "https://example.org/home/ann/page.html#/usr/share",
    "roots of unity; root mean square; the runner ran; localhost",
    "annabelle's pictures, not-annabel",
    "vlmbook/results/clip.json",
    "a share of 1/2, 3/4",
    "kim asks",  # a short name may be a word
    '<label for="sk-estimator-id-1" class="sk-toggleable__label-arrow">',
)


@pytest.fixture
def finder(monkeypatch):
    monkeypatch.setattr(getpass, "getuser", lambda: "annabel")
    monkeypatch.setattr(platform, "node", lambda: "anns-laptop.local")
    monkeypatch.setattr(private, "SHARED", set())
    names = private._names() | {"kim"}
    monkeypatch.setattr(private, "_names", lambda: names)
    monkeypatch.setenv("HOW_TOKENS_ARE_CUT", "standard-7")
    monkeypatch.setenv("SOME_API_KEY", "correct-horse-7")
    return private.in_output(ROOT)


@pytest.mark.parametrize("what", TOLD)
def test_it_is_found(finder, what):
    text, said = TOLD[what]
    told = finder(text)
    assert told is not None and told.startswith(said)
    assert "correct-horse-7" not in told and "a1B2" not in told  # a token is not repeated


@pytest.mark.parametrize("text", FINE)
def test_ordinary_texts_tell_nothing(finder, text):
    assert finder(text) is None


def test_names_that_everybody_has_tell_nothing(monkeypatch):
    monkeypatch.setattr(getpass, "getuser", lambda: "root")
    monkeypatch.setattr(platform, "node", lambda: "localhost")
    assert private.in_output(ROOT)("root of localhost") is None


def test_a_page_that_tells_something_fails_with_its_cell(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MY_SECRET_TOKEN", "correct-horse-7")
    write("requirements.txt", "ipykernel==6.0\n")(tmp_path)
    write("book/prose.md", "# Prose\n")(tmp_path)
    asks = "import os\nprint(os.environ.get('MY_SECRET_TOKEN', 'there is none'))"
    only(
        tmp_path,
        path=page_text("Path", "x = 1", "import os\nprint(os.getcwd())"),
        error=page_text("Error", "import json").rstrip()
        + "\n\n```{code-cell} ipython3\n:tags: [raises-exception]\n\njson.loads('')\n```\n",
        spelt=page_text("Spelt", "print('correct' + '-horse-7')"),
        kept=page_text("Kept", asks),
    )
    with pytest.raises(execute.ExecutionFailed, match="3 pages failed"):
        execute.run(tmp_path)
    told = capsys.readouterr().err
    assert "book/path.md:15 (code cell 2) shows the path" in told
    assert "book/error.md:15 (code cell 2) shows the path" in told
    assert "book/spelt.md:11 (code cell 1) shows a token" in told
    assert "correct-horse-7" not in told
    keys = {page.name: key for page, key in execute.keys(tmp_path).items()}
    done = execute.store(tmp_path).load(keys["book/kept.md"])
    assert done.cells[1].outputs[0].text == "there is none\n"


@pytest.mark.parametrize(
    "name",
    [
        "DB_PASSWORD",
        "MYSQL_PWD",
        "REGISTRY_PASS",
        "SMTP_PASS_2",
        "KEY_PASSPHRASE",
        "BASIC_AUTH",
        "MY_PAT",
    ],
)
def test_a_name_tells_a_secret(name):
    assert private.is_secret(name, "correct-horse-7")


@pytest.mark.parametrize(
    "name",
    ["PWD", "OLDPWD", "GIT_ASKPASS", "SSH_AUTH_SOCK", "GIT_AUTHOR_NAME", "TOX_TESTENV_PASSENV"],
)
def test_a_folder_of_the_shell_is_no_secret(monkeypatch, name):
    folder = f"{ROOT}/a/long/way/down/to/the/7th/folder"
    monkeypatch.setenv(name, folder)
    assert private.in_site(ROOT)(f"see {folder}").startswith("the path")
    assert name in kernel.environment(ROOT, 1, "/nowhere")


def test_the_hub_may_still_be_asked_with_its_token(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_" + "a1B2" * 8)
    monkeypatch.setenv("GITHUB_TOKEN", "ghp_" + "a1B2" * 9)
    given = kernel.environment(ROOT, 1, "/nowhere")
    assert "HF_TOKEN" in given and "GITHUB_TOKEN" not in given


def test_prose_may_use_words_that_are_names(monkeypatch):
    monkeypatch.setattr(getpass, "getuser", lambda: "mark")
    monkeypatch.setattr(platform, "node", lambda: "gpu")
    tells = private.in_site(ROOT)
    assert tells("mark the gpu; see ~/.cache/huggingface or /usr/share") is None
    assert tells(f"see {ROOT}/book") and tells("hf_" + "a1B2" * 8) == private.A_TOKEN


@pytest.mark.parametrize(
    "cell", ["print({})", "import sys\nprint({}, file=sys.stderr)", "raise ValueError({})"]
)
def test_a_report_keeps_no_token(tmp_path, monkeypatch, capsys, cell):
    token = "hf_" + "a1B2" * 8
    write("requirements.txt", "ipykernel==6.0\n")(tmp_path)
    write("book/prose.md", "# Prose\n")(tmp_path)
    monkeypatch.setenv("HF_TOKEN", token)
    source = "import os\n" + cell.format("os.environ['HF_TOKEN']")
    only(tmp_path, tells=page_text("Tells", source))
    with pytest.raises(execute.ExecutionFailed):
        execute.run(tmp_path)
    told = capsys.readouterr()
    kept = [path.read_text("utf8") for path in execute.reports(tmp_path).rglob("*.*")]
    assert len(kept) == 2 and not any(token in text for text in (told.out, told.err, *kept))
    assert "a token" in told.err
