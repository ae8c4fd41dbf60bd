"""The content of metrics.json, the verdict in words, and the table on the terminal."""

import json
import math

import pytest
from rich.console import Console

from phi3v.evaluation.comparison import compare, terminal_table, to_json
from phi3v.evaluation.figures import write_figure, write_number
from phi3v.evaluation.tables import comparison_table
from phi3v.evaluation.verdict import verdict
from phi3v.task import Task

TASK = Task(
    "products",
    "What is shown in this image?",
    "Product: {title}, Category: {category3_code}, Full Price: {full_price}",
    {"title": "text", "category3_code": "label", "full_price": "number"},
    "full_price/mape",
)
CAPTIONS = Task("captions", "?", "{caption}", {"caption": "text"}, "caption/token_f1")


def metrics(accuracy=0.99, mape=0.14, parse=1.0, task=TASK):
    values = dict.fromkeys(task.metric_names, parse)
    values |= {"category3_code/accuracy": accuracy, "full_price/mape": mape, "full_price/mae": 20.5}
    values["full_price/median_ape"] = mape
    return values


OWN, BASELINE = metrics(), metrics(0.22, 0.6)
BLANK, SHUFFLED = metrics(0.214, 0.61), metrics(0.19, 0.9)
BASE = metrics(0.0, 0.6, parse=0.0)
INTERVALS = dict.fromkeys(OWN, (0.97, 1.0)) | {"full_price/mape": (0.12, 0.16)}


def make(**changes):
    arguments = {
        "rows": {"train": 2432, "val": 304, "test": 304},
        "fine_tuned": OWN,
        "baseline": BASELINE,
        "optimum": {"full_price/mape": 0.125},
        "base": BASE,
        "controls": {"blank": BLANK, "shuffled": SHUFFLED},
        "intervals": INTERVALS,
    }
    return compare(TASK, **{**arguments, **changes})


def test_the_summary_has_the_documented_names():
    summary = make()
    assert summary["schema"] == 1
    assert summary["metrics"]["test/category3_code/accuracy"] == 0.99
    assert summary["metrics"]["test/full_price/mape"] == summary["test"]["full_price/mape"] == 0.14
    assert summary["metrics"]["test/parse_rate"] == 1.0
    assert summary["test_intervals"]["full_price/mape"] == [0.12, 0.16]
    assert summary["systems"]["fine_tuned"] == summary["test"] == OWN
    assert summary["systems"]["blank"] == BLANK
    assert summary["objective"] == {"name": "full_price/mape", "direction": "min", "value": 0.14}
    assert summary["rows"] == {"train": 2432, "val": 304, "test": 304}
    assert summary["looks"] is True


def test_another_split_gives_its_name_to_the_figures():
    summary = make(split="val")
    assert summary["metrics"]["val/parse_rate"] == 1.0
    assert summary["val"] == OWN
    assert "test" not in summary
    assert "val split of 304 rows" in printed(summary)


def test_what_was_not_measured_is_not_in_the_summary():
    summary = make(base=None, optimum={}, controls=None)
    assert sorted(summary["systems"]) == ["baseline", "fine_tuned"]


def test_equal_inputs_in_any_order_give_equal_bytes():
    turned = {name: OWN[name] for name in reversed(OWN)}
    text = to_json(make())
    assert text == to_json(make(fine_tuned=turned)) == to_json(json.loads(text))
    assert list(json.loads(text)) == sorted(json.loads(text))
    more = make()
    more["metrics"] |= {"a": 1.0}  # as the validation's are, which come later
    assert list(json.loads(to_json(more))["metrics"]) == sorted(more["metrics"])


def test_what_is_not_finite_becomes_null():
    summary = make(fine_tuned={**OWN, "full_price/mae": math.inf})
    assert json.loads(to_json(summary))["test"]["full_price/mae"] is None


def systems(own=OWN, **others):
    return {"fine_tuned": own, "baseline": BASELINE, "blank": BLANK, "shuffled": SHUFFLED} | others


def test_a_model_that_needs_its_picture_looks_and_the_figures_say_so():
    looks, sentences = verdict(TASK, systems(optimum={"full_price/mape": 0.125}), INTERVALS)
    assert looks
    assert sentences == [
        "The model looks: the MAPE of full_price is 14.0 % with the real picture, 61.0 % with a"
        " blank one and 90.0 % with that of another example; always answering the median gives"
        " 60.0 %.",
        "The accuracy of category3_code is 99.0 % with the real picture, 21.4 % with a blank one"
        " and 19.0 % with that of another example; always answering the majority gives 22.0 %.",
        "The best possible MAPE of full_price on these pictures is 12.5 %; the model's is 1.12"
        " times that.",
    ]


def test_a_model_that_does_as_well_without_its_picture_is_blind():
    looks, sentences = verdict(TASK, systems(own=BLANK, shuffled=BLANK), {})
    assert not looks
    assert sentences[0] == (
        "The model is blind: the MAPE of full_price is 61.0 % with the real picture, but also"
        " 61.0 % with a blank one and 61.0 % with that of another example; always answering the"
        " median gives 60.0 %."
    )


def test_one_control_that_does_as_well_is_enough_to_be_blind():
    assert verdict(TASK, systems(), INTERVALS)[0]
    for control in ("blank", "shuffled"):
        for as_good in (OWN, metrics(0.2, 0.14), metrics(0.99, 0.9)):
            assert not verdict(TASK, systems(**{control: as_good}), INTERVALS)[0]


def test_a_label_with_one_value_decides_nothing():
    same = {"category3_code/accuracy": 1.0}
    named = systems()
    looks, sentences = verdict(TASK, {name: {**one, **same} for name, one in named.items()}, {})
    assert looks
    assert not any("category3_code" in sentence for sentence in sentences)


def test_the_constant_that_is_best_for_the_metric_stands_beside_the_median():
    _, sentences = verdict(TASK, systems(constant={"full_price/mape": 0.51}), INTERVALS)
    assert "always answering the median gives 60.0 %, the best constant 51.0 %." in sentences[0]


def test_a_difference_inside_the_interval_proves_nothing():
    near = metrics(0.975, 0.15)
    assert verdict(TASK, systems(blank=near, shuffled=near), {})[0]
    assert not verdict(TASK, systems(blank=near, shuffled=near), INTERVALS)[0]


def test_looking_for_one_field_only_is_said():
    flat = metrics(accuracy=0.214)
    looks, sentences = verdict(TASK, systems(own=flat, shuffled=metrics(0.214, 0.9)), {})
    assert not looks
    assert sentences[0].startswith(
        "The model looks only in part, not for category3_code: the MAPE of full_price is 14.0 %"
    )


def test_without_a_readable_answer_or_a_control_there_is_no_verdict():
    unread = verdict(TASK, systems(own=BASE), {})
    assert unread == (
        False,
        ["Whether the model looks cannot be said: not one of its answers could be read."],
    )
    unchecked = verdict(TASK, {"fine_tuned": OWN}, {})
    assert unchecked[0] is False
    assert "was not checked" in unchecked[1][0]


def test_captions_are_judged_by_their_objective():
    own = dict.fromkeys(CAPTIONS.metric_names, 0.5) | {"caption/parse_rate": 1.0}
    blank = {**own, "caption/token_f1": 0.1}
    assert verdict(CAPTIONS, {"fine_tuned": own, "blank": blank}, {})[0]
    assert not verdict(CAPTIONS, {"fine_tuned": own, "blank": own}, {})[0]


def printed(summary, width=80):
    console = Console(width=width, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(terminal_table(summary))
    return capture.get()


def test_the_terminal_table_fits_eighty_columns_with_every_figure_whole():
    text = printed(make())
    assert max(map(len, text.splitlines())) <= 80
    for piece in (
        "304 rows",
        "Best possible",
        "Before training",
        "Fine-tuned",
        "99.0 %",
        "14.0 %",
        "title",
    ):
        assert piece in text
    assert "shuffled picture" in text
    assert "…" not in text
    rows = [line for line in text.splitlines() if "%" in line]
    assert "12.5 %" in rows[0]
    assert "Median" in rows[1]


def test_many_fields_with_long_names_still_fit_and_keep_the_objective():
    names = [f"a_very_long_name_of_field_{index}" for index in range(9)]
    task = Task(
        "wide",
        "?",
        ", ".join(f"x {{{name}}}" for name in names),
        dict.fromkeys(names, "number"),
        f"{names[8]}/mae",
    )
    values = dict.fromkeys(task.metric_names, 0.123) | {f"{names[8]}/mae": 98765.4}
    text = printed(compare(task, rows={"test": 3}, fine_tuned=values, baseline=values))
    assert max(map(len, text.splitlines())) <= 80
    assert "98,765" in text
    assert "MAE" in text


def test_a_bare_model_carries_its_own_name():
    text = printed(make(subject="Base model", base=None))
    assert "Base model" in text
    assert "Fine-tuned" not in text


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("parse_rate", 1.0, "100.0 %"),
        ("x/mape", 0.1423, "14.2 %"),
        ("x/mape", 1e5, "1e+07 %"),
        ("x/mae", 1234.5, "1,234"),
        ("val/loss", 0.123456, "0.1235"),
        ("x/mae", None, "—"),
        ("x/mae", math.nan, "—"),
    ],
)
def test_figures_are_written_for_people(name, value, text):
    assert write_figure(name, value) == text


def test_numbers_keep_about_four_digits():
    numbers = [0, 0.00012, 0.01234, 12.3456, 999.9, 12345.6, 1e9]
    texts = ["0", "0.00012", "0.01234", "12.35", "999.9", "12,346", "1e+09"]
    assert [write_number(number) for number in numbers] == texts


def test_other_models_stand_below_with_figures_of_their_own():
    long = "/a/very/long/path/that/nobody/wants/to/read/runs/lora_r8/2026-01-01_12-00-00-000000"
    compared = {"lora_r8": metrics(0.9, 0.25), long: metrics(0.8, math.nan)}
    summary = make(compared=compared, subject="lora_r16")
    assert summary["compared"]["lora_r8"]["full_price/mape"] == 0.25
    assert summary["compared"][long]["full_price/mape"] is None
    assert "compared" not in make()
    console = Console(width=80, record=True)
    console.print(terminal_table(summary))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    (row,) = (line for line in lines if line.startswith("│ lora_r8 "))
    assert "25.0 %" in row
    assert any("…" in line and "lora_r8/2026-01-01_12-00-00-000000" in line for line in lines)
    page = comparison_table(summary, TASK)
    assert page.count("<tr") == 2 + len(summary["systems"]) + 2
    assert "<th>lora_r8</th>" in page


def test_other_models_keep_the_order_in_which_they_were_named():
    named = ["wide", "lora_r8", "narrow", "a"]
    others = {name: metrics(0.9, 0.2 + place / 10) for place, name in enumerate(named)}
    summary = make(compared=others, subject="lora_r16")
    again = json.loads(to_json(summary))
    assert list(again) == sorted(again)
    for one in (summary, again):
        assert list(one["compared"]) == named
        assert list(one["compared"]["wide"]) == sorted(one["compared"]["wide"])
        rows = [line.split()[1] for line in printed(one).splitlines() if "│" in line]
        assert [row for row in rows if row in named] == named
        page = comparison_table(one, TASK)
        places = [page.index(f"<th>{name}</th>") for name in named]
        assert places == sorted(places)
