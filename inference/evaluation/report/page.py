"""The report as one self-contained HTML page with sortable tables, notes and sheets."""

import base64
from html import escape
from pathlib import Path
from typing import Any

from gcfsr_inference.console import counted
from gcfsr_inference.evaluation.report.tables import READING_HEAD, Cell, Table, make_tables, reading_tables, warnings
from gcfsr_inference.evaluation.report.text import arrow, excluded_lines, not_computed, notes, provenance

STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:2em auto;max-width:1280px;padding:0 1em;color:#222}
table{border-collapse:collapse;margin:.6em 0 2em;font-variant-numeric:tabular-nums}
th,td{padding:.3em .8em;text-align:right;border-bottom:1px solid #ddd}th:first-child,td:first-child{text-align:left}
th{cursor:pointer;background:#f4f4f4;user-select:none}th[data-order]:after{content:" \\25BE"}
th[data-order="up"]:after{content:" \\25B4"}
tr.published td{color:#777;font-style:italic}.best{color:#b00020;font-weight:700}
.second{color:#0b57d0;text-decoration:underline}
small{color:#777;display:block;white-space:nowrap}
.none{color:#999;font-size:.85em}img{max-width:100%;border:1px solid #ddd}
"""

SCRIPT = """
document.querySelectorAll('table.sortable').forEach(table => {
  table.querySelectorAll('th').forEach((head, column) => head.addEventListener('click', () => {
    const up = head.dataset.order === 'down' || (!head.dataset.order && head.dataset.better !== 'higher');
    table.querySelectorAll('th').forEach(other => delete other.dataset.order);
    head.dataset.order = up ? 'up' : 'down';
    const value = row => row.cells[column].dataset.value;
    const body = table.tBodies[0];
    [...body.rows].sort((a, b) => {
      const x = value(a), y = value(b);
      if (x === '' || y === '') return (x === '') - (y === '');
      const order = column === 0 ? x.localeCompare(y) : Number(x) - Number(y);
      return up ? order : -order;
    }).forEach(row => body.append(row));
  }));
});
"""

PUBLISHED = ' class="published"'


def _cell(cell: Cell) -> str:
    if cell.value is None:
        return f'<td data-value="" class="none">{escape(cell.text)}</td>'
    style = {1: ' class="best"', 2: ' class="second"'}.get(cell.rank, "")
    interval = ""
    if cell.interval:
        low, high = (f"{side:.{cell.digits}f}" for side in cell.interval)
        interval = f"<small>[{low}, {high}]</small>"
    value = {"inf": "Infinity", "-inf": "-Infinity"}.get(str(cell.value), str(cell.value))
    return f'<td data-value="{value}"><span{style}>{cell.number}</span>{interval}</td>'


def _table(table: Table, metrics: dict[str, Any]) -> str:
    shown = [metrics[metric] for metric in table.metrics]
    heads = "".join(f'<th data-better="{metric["better"]}">{escape(arrow(metric))}</th>' for metric in shown)
    rows = []
    for row in table.rows:
        name = f'<td data-value="{escape(row.label)}">{escape(row.label)}</td>'
        cells = "".join(_cell(row.cells[metric]) for metric in table.metrics)
        rows.append(f"<tr{PUBLISHED if row.published else ''}>{name}{cells}</tr>")
    absent = f"<p>Without a result: {escape(', '.join(table.absent))}.</p>" if table.absent else ""
    head, body = f"<thead><tr><th>method</th>{heads}</tr></thead>", f"<tbody>{''.join(rows)}</tbody>"
    return (
        f"<h2>{escape(table.title)}, {escape(table.group)} <small>{counted(table.images, 'image')}</small></h2>"
        f'<table class="sortable">{head}{body}</table>{absent}'
    )


def _list(lines: list[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def html_page(report: dict[str, Any], sheet_files: list[Path], title: str = "Evaluation") -> str:
    """The page.

    Args:
        report: the report of `assemble`.
        sheet_files: JPEG or PNG sheets to embed, in order; their stems become the captions.
        title: the heading.
    """
    parts = [f"<h1>{escape(title)}</h1>", _list(provenance(report))]
    parts.append(
        '<p>Click a column head to sort. <span class="best">Best</span> and <span class="second">second best</span> '
        "among the methods measured here.</p>"
    )
    parts += [f"<p><strong>{escape(line)}</strong></p>" for line in warnings(report)]
    if missing := not_computed(report):
        parts.append(f"<p>Not computed:</p>{_list(missing)}")
    parts += [_table(table, report["metrics"]) for table in make_tables(report)]
    for heading, rows in reading_tables(report):
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        head = "".join(f"<th>{escape(cell)}</th>" for cell in READING_HEAD)
        parts.append(f"<h2>{escape(heading)}</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
    excluded = excluded_lines(report)
    if excluded:
        parts.append(f"<h2>Excluded</h2><p>{escape(excluded[0])}</p>{_list(excluded[1:])}")
    parts.append(f"<h2>Notes</h2>{_list(notes(report))}")
    if sheet_files:
        parts.append("<h2>Sheets</h2>")
    for file in sheet_files:
        kind = "png" if file.suffix == ".png" else "jpeg"
        data = base64.b64encode(file.read_bytes()).decode()
        name = escape(file.stem)
        parts.append(f'<h3>{name}</h3><img alt="{name}" src="data:image/{kind};base64,{data}">')
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style><body>{''.join(parts)}<script>{SCRIPT}</script></body></html>\n"
    )
