"""What a page hands to its text works inside the book's build and outside of it."""

import sys

import pytest

from vlmbook import page


def test_outside_the_build_values_are_shown(capsys, monkeypatch):
    monkeypatch.delenv(page.BUILDING, raising=False)
    page.glue("accuracy", "98 %")
    assert capsys.readouterr().out == "accuracy = 98 %\n"


def test_without_myst_nb_glue_still_works(capsys, monkeypatch):
    monkeypatch.setenv(page.BUILDING, "1")
    monkeypatch.setitem(sys.modules, "myst_nb", None)  # importing it fails
    page.glue("accuracy", 0.5)
    assert capsys.readouterr().out == "accuracy = 0.5\n"


def test_inside_the_build_myst_nb_gets_the_value(monkeypatch):
    monkeypatch.setenv(page.BUILDING, "1")
    glued = {}
    fake = type(sys)("myst_nb")
    fake.glue = lambda name, value, display: glued.update({name: (value, display)})
    monkeypatch.setitem(sys.modules, "myst_nb", fake)
    page.glue("accuracy", 0.5)
    assert glued == {"accuracy": (0.5, False)}


def test_figures_are_closed(capsys, monkeypatch):
    monkeypatch.delenv(page.BUILDING, raising=False)
    from vlmbook.plot import plt

    figure = plt.figure()
    page.figure("one", figure)
    assert figure.number not in plt.get_fignums()
    assert "Figure" in capsys.readouterr().out


def test_results_are_read_by_name():
    bench = page.result("bench")
    assert bench["command"] == "make bench" and len(bench["rows"]) > 8
    with pytest.raises(FileNotFoundError, match="no result 'benhc'; there are: bench"):
        page.result("benhc")
