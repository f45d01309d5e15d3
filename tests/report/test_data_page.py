"""The page about data: self-contained, with a histogram of every set and the tables that the facts ask for."""

from __future__ import annotations

import numpy as np

from slimasr.data.inspection.facts import DataFacts, inspect_sets
from slimasr.report.data_page import data_page
from slimasr.report.tables.data import data_tables
from tests.data.test_inspection import cut, speech
from tests.report.page import Page


def facts() -> DataFacts:
    train = [*speech(60), cut("<b>odd</b>", 9.0, "x", language="en")]
    return inspect_sets({"train": [(each, None) for each in train], "dev": [(each, None) for each in speech(30, 1)]})


def test_the_page_needs_no_network_and_shows_every_set() -> None:
    found = facts()
    text = data_page(found, "Data: a < b")
    page = Page(text)
    assert page.fetched == [] and page.viewport
    assert "<b>odd</b>" not in text and "&lt;b&gt;odd&lt;/b&gt;" in text and "<h1>Data: a &lt; b</h1>" in text
    assert [[trace["name"] for trace in figure["data"]] for figure in page.figures] == [["train", "dev"]] * 2
    assert [figure["layout"]["xaxis"]["title"]["text"] for figure in page.figures] == [
        "length (s)",
        "characters per second",
    ]


def test_the_outlines_are_the_histograms() -> None:
    found = facts()
    lengths, paces = Page(data_page(found, "x")).figures
    for figure, name in ((lengths, "durations"), (paces, "pace")):
        for trace, each in zip(figure["data"], found.sets, strict=True):
            histogram = getattr(each, name)
            # Two corners for every bar, between the two ends of the base line.
            shares = np.array(trace["y"][1:-1]).reshape(-1, 2)
            edges = np.array(trace["x"][1:-1]).reshape(-1, 2)
            assert np.allclose(shares * each.utterances / 100, np.array(histogram.counts)[:, None])
            assert np.allclose(edges[:, 1] - edges[:, 0], histogram.width) and edges[0, 0] == 0.0


def test_tables_without_rows_are_left_out() -> None:
    assert [table.title for table in data_tables(facts())] == [
        "Sets",
        "Lengths and text",
        "Suspicious utterances",
        "Repeated utterances",
        "Characters",
    ]
    clean = inspect_sets({"train": [(each, None) for each in speech(60)]})
    assert [table.title for table in data_tables(clean)] == ["Sets", "Lengths and text", "Characters"]
