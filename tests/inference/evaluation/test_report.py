"""Tables, pages, intervals and comparisons of reports written by hand, so that every number is known."""

import csv
import io
import json
import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.evaluation.report.assemble import FORMAT
from gcfsr_inference.evaluation.report.compare import compare, comparison_text, load_report
from gcfsr_inference.evaluation.report.groups import by_luminance, by_prefix, make_groups
from gcfsr_inference.evaluation.report.page import html_page
from gcfsr_inference.evaluation.report.published import PUBLISHED
from gcfsr_inference.evaluation.report.tables import make_tables, warnings
from gcfsr_inference.evaluation.report.text import csv_text, markdown
from gcfsr_inference.evaluation.score import decode, encode
from gcfsr_inference.evaluation.workspace import write_json
from gcfsr_measure.statistics import bootstrap_interval, holm, paired_test


def metric(name: str, better: str = "higher", **fields: Any) -> dict[str, Any]:
    entry = {"name": name, "better": better, "digits": 2, "of_set": False, "note": "", "undefined": "", "status": "ok"}
    return {**entry, "id": name, "weights": None, **fields}


def hand_made(values: dict[str, list[float | None]], published: str | None = None) -> dict[str, Any]:
    """A report with one condition x16 and PSNR values by method, and an FID without weights."""
    names = [f"p{i}" for i in range(len(next(iter(values.values()))))]
    metrics = {
        "psnr": metric("PSNR (RGB)"),
        "fid": metric("FID", "lower", of_set=True, status="no weights: FILE goes to FOLDER"),
    }
    return {
        "format": FORMAT, "protocol": "hand", "published": published, "differs": [], "seed": 0, "out_size": 64,
        "versions": {"python": "3"}, "images": {name: name for name in names}, "gt_sha256": "t" * 64,
        "conditions": [{"key": "x16", "input_key": "x16", "factor": 16.0, "dial": 16.0}],
        "input_sha256": {"x16": "i" * 64}, "groups": {"all": names, "first": names[:2]}, "excluded": [],
        "methods": [{"label": label, "identity": {"kind": label}, "absent": {}} for label in values],
        "metrics": metrics,
        "values": {m: {"x16": {"psnr": dict(zip(names, map(encode, v), strict=True))}} for m, v in values.items()},
        "set_values": {m: {"x16": {}} for m in values},
        "readings": {},
    }  # fmt: skip


def test_means_ranks_and_undefined_values() -> None:
    report = hand_made({"a": [1, 2, 3, 4], "b": [5, 6, 7, None], "c": [0, 0, 0, 0], "d": [None] * 4})
    whole, first = make_tables(report)
    cells = {row.label: row.cells["psnr"] for row in whole.rows}
    assert [(cells[m].value, cells[m].count, cells[m].rank) for m in "abcd"] == [
        (2.5, 4, 2), (6, 3, 1), (0, 4, 0), (None, 0, 0),
    ]  # fmt: skip
    assert cells["d"].number == "not defined"
    assert [row.cells["psnr"].value for row in first.rows] == [1.5, 5.5, 0, None]
    text = markdown(report)
    assert "**6.00**" in text
    assert "<u>2.50</u>" in text
    assert "FID: no weights: FILE goes to FOLDER" in text
    assert "| FID" not in text  # no empty column, but the line above


def test_equal_numbers_share_a_rank_and_infinity_is_kept() -> None:
    report = hand_made({"a": [math.inf, 30], "b": [math.inf, 30], "c": [20, 20]})
    json.dumps(report, allow_nan=False)
    assert decode(encode(math.inf)) == math.inf
    table = make_tables(report)[0]
    assert [row.cells["psnr"].rank for row in table.rows] == [1, 1, 2]
    assert table.rows[0].cells["psnr"].interval is None
    assert 'data-value="Infinity"' in html_page(report, [])


def test_published_rows_are_separate(tmp_path: Path) -> None:
    report = hand_made({"a": [27, 29], "b": [26, 26]}, published="table2")
    whole, first = make_tables(report)
    published = [row for row in whole.rows if row.published]
    assert [row.label for row in published][-1] == "GCFSR (published: Table 2, 100 images of CelebA-HQ, 1024x1024)"
    assert published[-1].cells["psnr"].value == 27.17
    assert published[-1].cells["fid"].value == 30.48
    assert all(cell.rank == 0 for row in published for cell in row.cells.values())
    assert not [row for row in first.rows if row.published]
    text = markdown(report)
    assert "*GCFSR (published: Table 2, 100 images of CelebA-HQ, 1024x1024)*" in text
    assert "cannot be compared with the others: 2 images were measured, the published rows are of 100" in text
    assert "not measured here" in text
    assert "no weights |" in text  # our rows, in the column that the published ones fill
    page = html_page(report, [])
    assert page.count('<tr class="published">') == 6
    assert "<script>" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)


@pytest.mark.parametrize(("psnr", "warned"), [(25.3, False), (22.6, True)])
def test_an_input_of_another_quality_is_warned_about(psnr: float, warned: bool) -> None:
    """Table 3's inputs have 25.35 dB, which is not confirmed: a degradation with colour jitter gives about 22.6."""
    report = hand_made({"input": [psnr] * 2, "a": [28, 28]}, published="table3")
    report["methods"][0]["identity"]["kind"] = "bicubic"
    report["conditions"] = [{"key": "blind", "input_key": "blind", "factor": None, "dial": None}]
    for tree in (report["values"], report["set_values"]):
        for conditions in tree.values():
            conditions["blind"] = conditions.pop("x16")
    report["input_sha256"] = {"blind": "i" * 64}
    said = [line for line in warnings(report) if "the input's PSNR (RGB) is 22.60, that of the published" in line]
    assert bool(said) == warned
    assert all("published rows 25.35 (not confirmed: quoted from memory of Wang et al." in line for line in said)
    assert make_tables(report)[0].rows[0].label == "input"
    assert ("another degradation or other images" in markdown(report)) == warned
    assert ("another degradation or other images" in html_page(report, [])) == warned


def test_a_click_on_a_head_sorts(tmp_path: Path) -> None:
    """In a real browser: first click best first, second click the other way, missing numbers last."""
    browser = shutil.which("chromium") or pytest.skip("no chromium")
    report = hand_made({"low": [1, 1], "none": [None, None], "high": [30, 30], "mid": [4, 4]})
    orders = []
    for clicks in (1, 2):
        page = tmp_path / f"{clicks}.html"
        again = f"<script>for (let i = 0; i < {clicks}; i++) document.querySelectorAll('th')[1].click()</script>"
        page.write_text(html_page(report, []).replace("</body>", again + "</body>"))
        line = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
        done = subprocess.run([*line, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120)
        table = done.stdout.partition("<tbody>")[2].partition("</tbody>")[0]
        orders.append(re.findall(r'<tr><td data-value="(\w+)"', table))
    assert orders == [["high", "mid", "low", "none"], ["low", "mid", "high", "none"]]


def test_published_numbers_are_the_papers(shared: Path) -> None:
    """Every number of Tables 2 to 4 is in the paper's text, and the number of rows is the same."""
    text = (shared / "paper" / "gcfsr_cvpr2022.txt").read_text()
    for table, conditions in PUBLISHED.items():
        for rows in conditions.values():
            for method, numbers in rows.items():
                for key, value in numbers.items():
                    shown = f"{value:.{2 if key in ('psnr', 'fid', 'niqe') else 4}f}"
                    assert shown in text, (table, method, key, shown)
    rows = {table: len(next(iter(conditions.values()))) for table, conditions in PUBLISHED.items()}
    assert rows == {"table2": 6, "table3": 5, "table4": 6}
    line = next(line for line in text.splitlines() if line.startswith("GCFSR (Ours)\t"))
    numbers = [float(part) for part in line.split("\t")[1:]]
    found = [v for key in ("x16", "x32", "x64") for v in PUBLISHED["table2"][key]["GCFSR"].values()]
    assert found == numbers


def test_csv_has_every_value() -> None:
    report = hand_made({"a": [1, None], "b": [3, 4]})
    rows = list(csv.reader(io.StringIO(csv_text(report))))
    assert rows[1:] == [
        ["a", "x16", "PSNR (RGB)", "", "p0", "1"], ["a", "x16", "PSNR (RGB)", "", "p1", ""],
        ["b", "x16", "PSNR (RGB)", "", "p0", "3"], ["b", "x16", "PSNR (RGB)", "", "p1", "4"],
    ]  # fmt: skip


def test_excluded_images_are_counted_first() -> None:
    report = hand_made({"a": [1, 2]})
    report["excluded"] = [{"name": "bad", "method": "a", "condition": "x16", "reason": "NaN <in> it"}]
    assert "1 image excluded everywhere:\n\n- bad (a x16): NaN <in> it" in markdown(report)
    assert "NaN &lt;in&gt; it" in html_page(report, [])


def test_bootstrap_interval_equals_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(0).normal(30, 2, 60)
    found = bootstrap_interval(values)
    wanted = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=9999, rng=np.random.default_rng(1))
    assert found == pytest.approx(tuple(wanted.confidence_interval), abs=0.06)
    assert found == bootstrap_interval(values)
    assert bootstrap_interval(values[:1]) is None


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_adjusts_upwards_and_keeps_the_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert np.all(np.diff(np.array(adjusted)[order]) >= 0)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_paired_test_equals_scipys_and_handles_equal_methods() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    a = rng.normal(0, 1, 40)
    b = a + rng.normal(0.3, 0.5, 40)
    found = paired_test(a, b)
    assert found.p == pytest.approx(stats.wilcoxon(b, a).pvalue)
    assert found.difference == pytest.approx((b - a).mean())
    assert paired_test(a, a) == paired_test(b, b)
    assert paired_test(a, a).p == 1


def test_compare_reports_what_differs() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(25, 2, 30)
    values = {"a": base, "better": base + rng.normal(0.5, 0.3, 30), "same": base + np.tile([0.1, -0.1], 15)}
    report = hand_made({key: list(map(float, v)) for key, v in values.items()})
    verdicts = {
        (a, b): compare(report, report, [(a, b)])[0]["verdict"]
        for a, b in (("a", "better"), ("better", "a"), ("a", "same"))
    }
    assert verdicts == {
        ("a", "better"): "better", ("better", "a"): "worse", ("a", "same"): "no significant difference",
    }  # fmt: skip
    report["metrics"]["psnr"]["better"] = "lower"
    assert compare(report, report, [("a", "better")])[0]["verdict"] == "worse"
    assert "| x16 | PSNR (RGB) | a | better | +" in comparison_text(compare(report, report, [("a", "better")]))
    assert {row["difference"] for row in compare(report, report)} == {0}


def test_all_pairs_of_a_comparison_are_corrected_together() -> None:
    rng = np.random.default_rng(1)
    base = rng.normal(25, 2, 20)
    others = {name: base + rng.normal(0.15, 0.3, 20) for name in "bcd"}
    report = hand_made({key: list(map(float, v)) for key, v in {"a": base, **others}.items()})
    alone = [compare(report, report, [("a", other)])[0]["p"] for other in others]
    together = compare(report, report, [("a", other) for other in others])
    assert [row["p_adjusted"] for row in together] == holm(alone) != alone


def test_compare_refuses_other_inputs(tmp_path: Path) -> None:
    a, b = hand_made({"a": [1, 2]}), hand_made({"a": [1, 2]})
    for field, value in (("seed", 1), ("images", {"p0": "x", "p1": "p1"}), ("input_sha256", {"x16": "other"})):
        with pytest.raises(GCFSRError, match=r"x16: the (degraded )?inputs"):
            compare(a, {**b, field: value})
    with pytest.raises(GCFSRError, match="share no method"):
        compare(a, hand_made({"other": [1, 2]}))
    with pytest.raises(GCFSRError, match="--pair z"):
        compare(a, b, [("a", "z")])
    write_json(tmp_path / "other.json", {"format": "x"})
    (tmp_path / "no.json").write_text("{")
    for name, what in (("other.json", "not a report"), ("no.json", "not a report"), ("none.json", "No such file")):
        with pytest.raises(GCFSRError, match=what):
            load_report(tmp_path / name)


def test_groups(tmp_path: Path) -> None:
    import cv2

    names = ["gen_1", "gen_2", "lon_1", "lon_2", "lon_3", "x_1"]
    assert {k: len(v) for k, v in by_prefix(names, "").items()} == {"gen": 2, "lon": 3, "x": 1}
    assert by_prefix(names, "lon_=real,gen_") == {
        "real": ["lon_1", "lon_2", "lon_3"], "gen_": ["gen_1", "gen_2"], "other": ["x_1"],
    }  # fmt: skip
    gt = {}
    for index, name in enumerate(names):
        gt[name] = tmp_path / f"{name}.png"
        cv2.imwrite(str(gt[name]), np.full((32, 32, 3), 40 * ((index * 5) % 6), np.uint8))
    thirds = by_luminance(gt, names)
    assert thirds == {
        "dark third": ["gen_1", "x_1"], "middle third": ["lon_2", "lon_3"], "light third": ["gen_2", "lon_1"],
    }  # fmt: skip
    groups = make_groups(["prefix:lon_=real+luminance"], gt, names)
    assert list(groups) == [
        "all", "real", "real, dark third", "real, middle third", "real, light third",
        "other", "other, dark third", "other, middle third", "other, light third",
    ]  # fmt: skip
    with pytest.raises(GCFSRError, match="--groups age"):
        make_groups(["age"], gt, names)


def test_generated_studio_and_wild_faces_are_separate_groups() -> None:
    names = ["lon_1", "wld_a", "gen_1", "bsm_2", "tpd_3", "mine"]
    assert make_groups(["origin"], {}, names) == {
        "all": names, "studio": ["lon_1"], "wild": ["wld_a"], "generated": ["gen_1", "bsm_2", "tpd_3"],
        "other": ["mine"],
    }  # fmt: skip
