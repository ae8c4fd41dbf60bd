"""The report as a browser reads it: complete, self-contained, safe, and right for any task."""

import re

import pytest
from html_page import Page
from PIL import Image

from phi3v.errors import UserError
from phi3v.evaluation.cards import row_error, sample, worst
from phi3v.evaluation.comparison import compare
from phi3v.evaluation.figures import metric_title, write_figure
from phi3v.evaluation.report import write_report
from phi3v.metric import FieldMetrics, baselines, bootstrap
from phi3v.task import Task

PRODUCTS = Task(
    "products",
    "What is shown in this image?",
    "Product: {title}, Category: {kind}, Full Price: {price}",
    {"title": "text", "kind": "label", "price": "number"},
    "price/mape",
)
CAPTIONS = Task("captions", "Describe.", "{caption}", {"caption": "text"}, "caption/token_f1")
# What would make a browser load something; looked for outside the base64 of the pictures.
LOADING = re.compile(r"https?:|//[a-z]|@import|url\(|<script|<link|<iframe", re.IGNORECASE)


@pytest.fixture
def pictures(tmp_path):
    paths = []
    for index, color in enumerate(("red", "blue", "green")):
        path = tmp_path / f"{index}.png"
        Image.new("RGB", (90 + 40 * index, 100), color).save(path)
        paths.append(str(path))
    return paths


def product_rows(count, pictures):
    rows = []
    for index in range(count):
        truth = {"title": f"Thing {index}", "kind": "ABC"[index % 3], "price": 10.0 + index}
        stated = {**truth, "price": truth["price"] * (1 + index % 5 / 10)}
        if index % 7 == 3:
            stated["kind"] = "Z"
        text = "no answer" if index % 10 == 9 else PRODUCTS.write_answer(stated)
        rows.append(row(PRODUCTS, f"p{index}", pictures[index % 3], truth, text))
    return rows


def row(task, key, picture, truth, text):
    return {
        "id": key,
        "picture": picture,
        "question": task.write_question(truth),
        "answer": task.write_answer(truth),
        "prediction": text,
        "truth": truth,
        "parsed": task.parse(text),
    }


HISTORY = [
    {"step": 1, "epoch": 0, "train/loss": 3.0, "lr/decoder": 1e-4, "val/loss": ""},
    {"step": 2, "epoch": 0, "train/loss": "2.5", "lr/decoder": 2e-4},
    {"step": 2, "epoch": 0, "val/loss": 2.6, "val/price/mape": 0.5, "val/parse_rate": 1.0},
    {"step": 4, "epoch": 1, "train/loss": "nan", "val/price/mape": 0.25, "val/price/mae": 4},
]


def report(tmp_path, task, rows, history=(), split="test", **changes):
    texts, truths = [one["prediction"] for one in rows], [one["truth"] for one in rows]
    train = {name: [truth[name] for truth in truths] for name in task.field_names}
    metrics = FieldMetrics(task, train)
    metrics.update([one["id"] for one in rows], texts, truths)
    values, constant = metrics.compute(), baselines(task, train, truths)
    summary = compare(
        task,
        rows={"train": 12, split: len(rows)},
        fine_tuned=values,
        baseline=constant,
        controls={"blank": constant, "shuffled": constant},
        intervals=bootstrap(task, train, texts, truths, samples=50),
        split=split,
    )
    arguments = {
        "title": "my run",
        "summary": summary,
        "history": list(history),
        "predictions": rows,
        "task": task,
        "config_yaml": "lr: 1e-4\n",
        "environment": {
            "python": "3.x",
            "packages": {"torch": "2"},
            "command": ["train.py", "a=b"],
        },
        "verdict": summary["verdict"],
    }
    path = tmp_path / "report.html"
    write_report(path, **{**arguments, **changes})
    return path.read_text(encoding="utf-8"), summary


def test_the_report_shows_everything_there_is(tmp_path, pictures):
    html, summary = report(tmp_path, PRODUCTS, product_rows(101, pictures), HISTORY)
    page = Page(html)
    for sentence in summary["verdict"]:
        assert sentence in page.text
    for piece in ("my run", "test split of 101 rows", "Comparison", "Fine-tuned", "blank picture"):
        assert piece in page.text
    for piece in ("Largest errors", "What is shown in this image?", "lr: 1e-4", "packages torch"):
        assert piece in page.text
    assert "train.py a=b" in page.text
    assert page.count("article", "picture") == 24 + 12
    # loss, price/mape and parse rate of the validation, learning rate, and the scatter
    assert page.count("svg") == 5
    assert page.count("circle", "point") + page.count("polygon", "point") == 91
    assert page.count("path", "cross") == 10
    assert page.count("table", "confusion") == 1


def test_a_full_disk_is_one_line_and_leaves_the_page_that_is_there(tmp_path, pictures):
    (tmp_path / "report.html.part").symlink_to("/dev/full")
    (tmp_path / "report.html").write_text("before", encoding="utf-8")
    with pytest.raises(UserError, match=r"report\.html: it cannot be written.*No space left"):
        report(tmp_path, PRODUCTS, product_rows(3, pictures), HISTORY)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == "before"


def test_the_metric_that_selects_the_checkpoint_has_a_curve(tmp_path, pictures):
    history = [{"step": s, "val/price/median_ape": 0.5 / s, "val/loss": 1} for s in (1, 2, 3)]
    objective = {"name": "price/median_ape", "direction": "min", "value": 0.1}

    def drawn(**changes):
        return report(tmp_path, PRODUCTS, product_rows(9, pictures), history, **changes)[0]

    html, summary = report(tmp_path, PRODUCTS, product_rows(9, pictures), history)
    assert "<h3>val/price/median_ape</h3>" not in html
    assert "<h3>val/price/median_ape</h3>" in drawn(summary={**summary, "objective": objective})


def test_the_figures_in_the_table_are_those_of_the_summary_and_the_objective_comes_first(
    tmp_path, pictures
):
    html, summary = report(tmp_path, PRODUCTS, product_rows(30, pictures))
    own = re.search(r'<tr class="own">(.*?)</tr>', html)[1]
    figures = re.findall(r"<td[^>]*>([^<]*)<small>", own)
    assert len(figures) == len(PRODUCTS.metric_names)
    assert figures[0] == f"{100 * summary['test']['price/mape']:.1f} %"
    low, high = summary["test_intervals"]["price/mape"]
    assert f"<small>{100 * low:.1f}–{100 * high:.1f}</small>" in own  # noqa: RUF001


def test_every_metric_stands_under_its_field_and_its_own_name(tmp_path, pictures):
    html, summary = report(tmp_path, PRODUCTS, product_rows(30, pictures))
    top, heads = re.findall(r"<tr>(.*?)</tr>", re.search(r"<thead>(.*?)</thead>", html)[1])
    groups = re.findall(r'<th class="group[^"]*" colspan="(\d+)">([^<]*)</th>', top)
    fields = [field for count, field in groups for _ in range(int(count))]
    titles = [head[:-7] for head in re.findall(r"<th[^>]*>([^<]+)</th>", heads)]
    own = re.search(r'<tr class="own">(.*?)</tr>', html)[1]
    figures = re.findall(r"<td[^>]*>([^<]*)<small>", own)
    shown = {(f, t): x for f, t, x in zip(fields, titles, figures, strict=True)}
    assert (fields[0], titles[0]) == ("price", "MAPE")
    assert shown == {
        (name.rpartition("/")[0], metric_title(name)): write_figure(name, summary["test"][name])
        for name in PRODUCTS.metric_names
    }


def test_a_comparison_says_whose_the_rest_of_the_page_is(tmp_path, pictures):
    rows = product_rows(30, pictures)
    alone, summary = report(tmp_path, PRODUCTS, rows)
    assert "alone." not in alone
    others = {"<b>": summary["test"], "r16 2": summary["test"]}
    summary = {**summary, "subject": "r16 1", "compared": others}
    html, _ = report(tmp_path, PRODUCTS, rows, summary=summary)
    head = Page(re.search(r"<header>(.*?)</header>", html)[1]).text
    assert "Compared with <b> and r16 2 in the table." in re.sub(r" +", " ", head)
    assert "pictures and scatter are of r16 1 alone." in re.sub(r" +", " ", head)
    names = re.findall(r"<tr class=\"[^\"]*\"><th>([^<]*)</th>", html)
    place = names.index("r16 1")
    controls = ["blank picture (r16 1)", "shuffled picture (r16 1)"]
    assert names[place + 1 :] == ["&lt;b&gt;", "r16 2", *controls]


def test_lines_between_rows_do_not_stop_at_the_column_that_stays(tmp_path, pictures):
    # A browser leaves collapsed borders behind when a cell sticks.
    html, _ = report(tmp_path, PRODUCTS, product_rows(3, pictures))
    assert "position: sticky" in html
    assert "border-collapse: separate; border-spacing: 0" in html


def test_the_scatter_says_that_both_axes_are_logarithmic(tmp_path, pictures):
    page = Page(report(tmp_path, PRODUCTS, product_rows(30, pictures))[0])
    assert {"truth (log)", "prediction (log)"} <= set(page.texts)


def test_nothing_is_loaded_from_anywhere(tmp_path, pictures):
    html, _ = report(tmp_path, PRODUCTS, product_rows(5, pictures), HISTORY)
    assert LOADING.findall(re.sub(r"base64,[^\"]*", "", html)) == []
    sources = [a["src"] for tag, a in Page(html).tags if tag == "img"]
    assert len(sources) == 5
    assert all(source.startswith("data:image/jpeg;base64,/9j/") for source in sources)
    assert str(tmp_path) not in html


def test_another_split_is_called_by_its_name(tmp_path, pictures):
    page = Page(report(tmp_path, PRODUCTS, product_rows(3, pictures), split="val")[0])
    assert "val split of 3 rows" in page.text


def test_it_is_made_for_phones_and_for_dark_screens(tmp_path, pictures):
    html, _ = report(tmp_path, PRODUCTS, product_rows(3, pictures))
    metas = [a for tag, a in Page(html).tags if tag == "meta"]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in metas
    assert "prefers-color-scheme: dark" in html


def test_markup_in_the_data_stays_text(tmp_path, pictures):
    evil = '<script>alert("1")</script>&amp;\'"><img src=x onerror=1>'
    truth = {"title": evil, "kind": evil, "price": 5.0}
    rows = [row(PRODUCTS, evil, pictures[0], truth, PRODUCTS.write_answer(truth))]
    rows.append(row(PRODUCTS, "b", pictures[0], {**truth, "kind": "x"}, evil))
    html, _ = report(
        tmp_path,
        PRODUCTS,
        rows,
        [{"step": 1, f"{evil}/loss": 1.0, f"{evil}": 2}, {"step": 2, "lr" + evil: 1}],
        title=evil,
        config_yaml=evil,
        environment={evil: evil},
        verdict=[evil],
    )
    page = Page(html)
    assert page.count("script") == 0
    assert page.count("img") == 2
    assert all("onerror" not in attributes for _, attributes in page.tags)
    assert page.text.count("alert(") >= 6


def test_captions_have_neither_scatter_nor_confusion(tmp_path, pictures):
    truth = {"caption": "a long text " * 50}
    rows = [
        row(CAPTIONS, "1", pictures[0], truth, "a long " * 70),
        row(CAPTIONS, "2", pictures[1], truth, ""),
    ]
    page = Page(report(tmp_path, CAPTIONS, rows)[0])
    assert page.count("svg") == page.count("table", "confusion") == 0
    assert "As generated: nothing" in page.text
    assert "not parsed" in page.text
    assert "% alike" in page.text


def test_one_row_without_a_history_is_enough(tmp_path, pictures):
    html, summary = report(tmp_path, PRODUCTS, product_rows(1, pictures))
    page = Page(html)
    assert "test split of 1 row " in page.text + " "
    assert "nothing was trained" in page.text
    assert "Largest errors" not in page.text
    assert page.count("article", "picture") == 1
    assert summary["verdict"][-1] == "All of this is weak evidence: 1 test row."


def test_a_picture_that_cannot_be_read_is_said_in_its_place(tmp_path, pictures):
    rows = product_rows(2, [str(tmp_path / "gone.png")] * 3)
    page = Page(report(tmp_path, PRODUCTS, rows)[0])
    assert page.count("img") == 0
    assert page.text.count("gone.png") == 2


def test_an_example_with_several_pictures_shows_them(tmp_path, pictures):
    rows = [{**product_rows(1, pictures)[0], "picture": pictures}]
    assert Page(report(tmp_path, PRODUCTS, rows)[0]).count("img") == 3


def test_equal_runs_give_equal_reports(tmp_path, pictures):
    rows = product_rows(40, pictures)
    assert report(tmp_path, PRODUCTS, rows, HISTORY) == report(tmp_path, PRODUCTS, rows, HISTORY)


def test_the_sample_is_fixed_and_the_worst_rows_come_first(pictures):
    rows = product_rows(60, pictures)
    assert sample(rows, 10) == sample(rows, 10)
    assert len({one["id"] for one in sample(rows, 10)}) == 10
    errors = [row_error(one, PRODUCTS) for one in worst(rows, PRODUCTS, 60)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] == 9  # nothing parsed
    assert min(errors) > 0
    assert worst([rows[0]], PRODUCTS) == []
