"""Render the report's page: one HTML file that needs no network, with tables and interactive plots."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import plotly.offline

from slimasr.report.findings import Finding
from slimasr.report.pictures.draw_html import heat_maps_html, plotly_figure, strips_html
from slimasr.report.pictures.picture import Chart, Drawing, HeatMaps, Picture
from slimasr.report.tables.table import Table

_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1100px; padding: 1rem 1.25rem 3rem; color: #222; background: #fff;
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: .5rem 0 .25rem; line-height: 1.2; }
h2 { font-size: 1.2rem; margin: 2.25rem 0 .5rem; border-bottom: 1px solid #ddd; padding-bottom: .25rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .25rem; }
p { margin: .25rem 0 .75rem; max-width: 70ch; }
.note { color: #666; font-size: .875rem; }
.scroll { overflow-x: auto; margin: .5rem 0 1rem; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .75rem .35rem 0; text-align: right; white-space: nowrap; border-bottom: 1px solid
#eee; } th { color: #555; font-weight: 600; border-bottom: 1px solid #bbb; vertical-align: bottom; }
th.text, td.text { text-align: left; }
td.text:first-child, th.text:first-child { position: sticky; left: 0; background: #fff; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); gap: 0 2rem; }
.grid > section { min-width: 0; }
.plot { width: 100%; }
.strips { display: flex; flex-wrap: wrap; gap: 1rem 1.25rem; margin: .75rem 0 1.5rem; }
.strips figure { margin: 0; }
.strips text { font-size: 9px; fill: #888; }
.strips figcaption { margin: .25rem 0 0 22px; font-size: .8125rem; line-height: 1.3; }
.verdict { font-weight: 600; white-space: nowrap; }
.held { color: #00664a; } .not-held { color: #b23c00; } .not-resolved, .not-tested { color: #666; }
li { margin: .25rem 0; }
"""

# The script stands at the end of the page, after the layout: a plot drawn earlier would keep the width its place had
# then. The figure's data are in the element after that place, so that no names are needed to find them.
_DRAW = """
for (const place of document.querySelectorAll(".plot")) {
  const figure = JSON.parse(place.nextElementSibling.textContent);
  Plotly.newPlot(place, figure.data, figure.layout, {displayModeBar: false});
  new ResizeObserver(() => Plotly.Plots.resize(place)).observe(place);
}
"""


def render_page(
    title: str,
    lead: str,
    tables: Sequence[Table],
    plots: Sequence[Picture],
    drawings: Sequence[Drawing | HeatMaps],
    curves: Sequence[Picture],
    findings: Sequence[Finding],
) -> str:
    """Return the whole page. Everything it shows is inside the file, including the plot library.

    Args:
        title: the title, as plain text like all other texts here.
        lead: the sentence below the title.
        tables: tables without rows are left out by the caller.
        plots: pictures of the results.
        drawings: pictures of architectures.
        curves: pictures of the training.
        findings: verdicts on claims; empty for a page without claims.
    """
    parts = [table_html(table) for table in tables if table.place == "top"]
    if plots:
        parts.append('<h2>Plots</h2><p class="note">Touch or point at a subnet for its name and costs.</p>')
        parts.append(grid_html(plots))
    parts += [_drawing(drawing) for drawing in drawings]
    if curves:
        note = "Evaluated after each epoch with the weights of that epoch, before averaging."
        parts.append(f'<h2>Training</h2><p class="note">{note}</p>{grid_html(curves)}')
    parts += [table_html(table) for table in tables if table.place == "middle"]
    if findings:
        parts.append(_findings(findings))
    parts += [table_html(table) for table in tables if table.place == "bottom"]
    return whole_page(title, lead, parts, has_plots=bool(plots or curves))


def whole_page(title: str, lead: str, parts: Sequence[str], *, has_plots: bool) -> str:
    """Return a page that needs no network.

    Args:
        title: the title, as plain text.
        lead: the sentence below the title, as plain text.
        parts: what follows, in HTML.
        has_plots: whether a part comes from `grid_html`. The plot library takes several megabytes, so that a page
            without plots does without it.
    """
    body = [f"<h1>{escape(title)}</h1>", f"<p>{escape(lead)}</p>", *parts]
    if has_plots:
        body.append(f"<script>{_DRAW}</script>")
    library = plotly.offline.get_plotlyjs() if has_plots else ""
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>"
        f"<script>{library}</script>"
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{"".join(body)}</body></html>\n'


def table_html(table: Table) -> str:
    """Return a table with its heading."""
    # CSS classes: columns of words are aligned to the left, columns of figures to the right.
    kinds = ["text" if text else "" for text in table.text_columns()]
    head = _cells("th", kinds, table.columns)
    rows = "".join(f"<tr>{_cells('td', kinds, row)}</tr>" for row in table.rows)
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return (
        f'<h2>{escape(table.title)}</h2>{note}<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _cells(tag: str, kinds: Sequence[str], texts: Sequence[str]) -> str:
    """A row of cells, ``<th>`` or ``<td>``, each with the class of its column."""
    cells = []
    for kind, text in zip(kinds, texts, strict=True):
        cells.append(f'<{tag} class="{kind}">{escape(text)}</{tag}>')
    return "".join(cells)


def grid_html(pictures: Sequence[Picture]) -> str:
    """Return the plots of pictures, side by side where the page is wide enough; they are drawn by `whole_page`."""
    charts = [chart for picture in pictures for chart in picture.charts]
    return f'<div class="grid">{"".join(map(_plot, charts))}</div>'


def _plot(chart: Chart) -> str:
    figure = plotly_figure(chart)
    if not figure.data:
        return ""
    # Inside a script element "</" could end it; in JSON "<\/" means the same.
    data = figure.to_json().replace("</", "<\\/")
    note = f'<p class="note">{escape(chart.note)}</p>' if chart.note else ""
    return (
        f"<section><h3>{escape(chart.title)}</h3>{note}"
        f'<div class="plot" style="height: {figure.layout.height}px"></div>'
        f'<script type="application/json">{data}</script></section>'
    )


def _drawing(drawing: Drawing | HeatMaps) -> str:
    drawn = heat_maps_html(drawing) if isinstance(drawing, HeatMaps) else strips_html(drawing)
    return f'<h2>{escape(drawing.title)}</h2><p class="note">{escape(drawing.note)}</p>{drawn}'


def _findings(findings: Sequence[Finding]) -> str:
    items = []
    for finding in findings:
        # Names of CSS classes cannot have spaces: "not held" has the class "not-held".
        css = finding.verdict.value.replace(" ", "-")
        evidence = "".join(f"<li>{escape(line)}</li>" for line in finding.evidence)
        items.append(
            f'<h3>{finding.claim}: <span class="verdict {css}">{finding.verdict.value}</span></h3>'
            f'<p>{escape(finding.text)}</p><ul class="note">{evidence}</ul>'
        )
    return f"<h2>Claims</h2>{''.join(items)}"
