"""The workflows that publish, their scripts, and what runs a script as a runner does."""

import os
import subprocess

import yaml
from books import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def load(path):
    return yaml.safe_load(path.read_text("utf8"))


def steps():
    """Every step: its workflow, its job, and itself."""
    for path in WORKFLOWS:
        for name, job in load(path)["jobs"].items():
            for step in job["steps"]:
                yield path, name, step


def scripts():
    return [(path, job, step) for path, job, step in steps() if "run" in step]


def script(workflow, job, part):
    """The one script of a job that contains some words."""
    found = [
        step["run"]
        for path, name, step in scripts()
        if (path.name, name) == (workflow, job) and part in step["run"]
    ]
    assert len(found) == 1
    return found[0]


def run(text, folder, **variables):
    """Run a step's script as a runner does, without this machine's own settings of git."""
    shell = load(WORKFLOWS[0])["defaults"]["run"]["shell"].split()
    file = folder / "step.sh"
    file.write_text(text, "utf8")
    given = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "HOME": str(folder), **variables}
    command = [str(file) if part == "{0}" else part for part in shell]
    return subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True)


def stub(folder, name, body):
    """A program that stands in for one, and writes down how it was called."""
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'#!/usr/bin/env bash\necho "{name} $*" >> "$HOME/calls"\n{body}\n')
    path.chmod(0o755)


def calls(folder):
    return (folder / "calls").read_text().splitlines() if (folder / "calls").exists() else []


def files_of(remote, branch):
    listed = ["git", "-C", remote, "ls-tree", "-r", "--name-only", branch]
    return subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
