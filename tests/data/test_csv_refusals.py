"""What is wrong with a CSV file is one line with file and row, or is left out on request."""

import logging

import pytest

from phi3v.data import CsvSource
from phi3v.errors import UserError


def refusal(source, task) -> str:
    with pytest.raises(UserError) as refused:
        source.load(task)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_missing_file_is_named(tmp_path, task):
    path = tmp_path / "gone.csv"

    assert refusal(CsvSource(path), task) == f"data file not found: {path}"


@pytest.mark.parametrize("content", ["", "\n", "title,full_price\n", "title,full_price\n\n,\n"])
def test_a_file_without_rows_is_refused(tmp_path, content, task):
    path = tmp_path / "empty.csv"
    path.write_text(content)

    message = refusal(CsvSource(path), task)

    assert message.startswith(f"{path}: ")
    assert "empty" in message or "no rows" in message


def test_a_missing_column_is_named_with_the_nearest_and_with_all(write_shop, shop_rows, task):
    rows = [row | {"fullprice": row.pop("full_price")} for row in shop_rows(2)]

    message = refusal(CsvSource(write_shop(rows)), task)

    assert "no column 'full_price'; did you mean 'fullprice'?" in message
    assert "product_code, title, category3_code, local_image_path, fullprice" in message


def test_a_wrong_delimiter_is_recognised(tmp_path, task):
    path = tmp_path / "shop.csv"
    path.write_text("title;full_price\na;1\n")

    assert "data.delimiter=tab" in refusal(CsvSource(path), task)


def test_a_column_that_stands_twice_is_refused(tmp_path, task):
    path = tmp_path / "shop.csv"
    path.write_text("title,title,category3_code,full_price,local_image_path\na,b,c,1,d.png\n")

    assert "column 'title' stands twice" in refusal(CsvSource(path), task)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a,Boots,1", "row 3: 3 cells where the header has 4"),
        ("a, b,Boots,1,a.png", "row 3: 5 cells where the header has 4"),
        ('"a,Boots,1,a.png', "row 3: malformed CSV"),
        ("\xff,Boots,1,a.png", "line 3: not UTF-8"),
    ],
)
def test_a_malformed_row_is_named(tmp_path, draw, line, expected, task):
    draw(tmp_path / "a.png")
    path = tmp_path / "shop.csv"
    text = f"title,category3_code,full_price,local_image_path\nok,Boots,1,a.png\n{line}\n"
    path.write_bytes(text.encode("latin-1"))

    assert refusal(CsvSource(path), task).startswith(f"{path}: {expected}")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"full_price": "n/a"}, "row 3: full_price 'n/a' is not a number"),
        ({"full_price": ""}, "row 3: full_price is empty"),
        ({"title": " "}, "row 3: title is empty"),
        ({"local_image_path": "images/gone.jpg"}, "row 3: picture not found: "),
        ({"local_image_path": ""}, "row 3: no picture in column 'local_image_path'"),
        ({"local_image_path": "https://shop/1.jpg"}, "row 3: column 'local_image_path' holds an"),
        ({"local_image_path": "images"}, "row 3: picture cannot be read: "),
    ],
)
def test_a_bad_row_is_named(write_shop, shop_rows, change, expected, task):
    rows = shop_rows(3)
    write_shop(rows)
    rows[1] |= change

    path = write_shop(rows)

    assert refusal(CsvSource(path), task).startswith(f"{path}: {expected}")


def test_an_empty_id_is_refused_where_the_column_was_asked_for(write_shop, shop_rows, task):
    rows = shop_rows(2)
    rows[1]["product_code"] = ""

    path = write_shop(rows)

    assert [example.id for example in CsvSource(path).load(task)] == [
        "p000",
        rows[1]["local_image_path"],
    ]
    message = refusal(CsvSource(path, id_column="product_code"), task)
    assert message == f"{path}: row 3: the id column 'product_code' is empty"


@pytest.mark.parametrize("verify_up_to", [5000, 0])
def test_a_corrupt_picture_is_found_at_loading_while_the_set_is_small(
    write_shop, shop_rows, draw, tmp_path, task, verify_up_to
):
    rows = shop_rows(3)
    rows[2]["local_image_path"] = "cut.jpg"
    whole = draw(tmp_path / "cut.jpg", (300, 300)).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[:-900])
    source = CsvSource(write_shop(rows), verify_up_to=verify_up_to)

    skipping = CsvSource(source.path, verify_up_to=verify_up_to, on_error="skip")
    assert len(skipping.load(task)) == 2  # later it could not be left out any more
    if verify_up_to:
        message = refusal(source, task)
        assert message.startswith(f"{source.path}: row 4: picture cannot be read: ")
        assert "cut.jpg" in message
    else:
        assert len(source.load(task)) == 3


def test_all_bad_rows_are_counted_and_five_are_shown(write_shop, shop_rows, task):
    rows = shop_rows(10)
    for row in rows[2:]:
        row["full_price"] = "?"

    message = refusal(CsvSource(write_shop(rows)), task)

    assert "8 of 10 rows are bad: row 4: " in message
    assert [f"row {number}:" in message for number in (4, 5, 6, 7, 8, 9)] == [True] * 5 + [False]
    assert message.endswith("; 3 more")


def test_skipped_rows_are_logged_with_their_reasons(write_shop, shop_rows, task, caplog):
    rows = shop_rows(4)
    rows[1]["full_price"] = "?"
    rows[2]["local_image_path"] = "gone.jpg"
    source = CsvSource(write_shop(rows), on_error="skip")

    with caplog.at_level(logging.WARNING):
        examples = source.load(task)

    assert [example.id for example in examples] == ["p000", "p003"]
    assert "skipped row 3: full_price '?'" in caplog.text
    assert "skipped row 4: picture not found" in caplog.text
    assert "skipped 2 of 4 rows" in caplog.text
    assert source.describe().endswith("products.csv, 2 bad rows skipped")


def test_skipping_every_row_is_refused(write_shop, shop_rows, task):
    rows = [row | {"full_price": "?"} for row in shop_rows(2)]

    assert "2 of 2 rows are bad" in refusal(CsvSource(write_shop(rows), on_error="skip"), task)


def test_rows_with_too_many_cells_are_skipped_like_any_bad_row(tmp_path, draw, task):
    draw(tmp_path / "a.png")
    path = tmp_path / "products.csv"
    good = "scarf,Scarves,1,a.png"
    header = "title,category3_code,full_price,local_image_path"
    path.write_text(f"{header}\n{good}\n{good},extra\n")
    with pytest.raises(UserError, match="row 3: 5 cells where the header has 4"):
        CsvSource(path).load(task)
    source = CsvSource(path, on_error="skip")
    assert len(source.load(task)) == 1
    assert len(source.skipped) == 1


@pytest.mark.parametrize("delimiter", ["", "ab", "\n"])
def test_what_is_no_delimiter_is_refused(shop, task, delimiter):
    with pytest.raises(UserError, match="is not one character"):
        CsvSource(shop(2), delimiter=delimiter).load(task)


def test_columns_for_unknown_fields_are_refused(shop, task):
    message = refusal(CsvSource(shop(2), columns={"prise": "full_price"}), task)

    assert "'prise'" in message
    assert "title, category3_code, full_price" in message


def test_row_numbers_are_those_of_a_spreadsheet_with_empty_lines(tmp_path, draw, task):
    draw(tmp_path / "a.png")
    path = tmp_path / "shop.csv"
    path.write_text(
        "title,category3_code,full_price,local_image_path\n"
        '"two\nlines",Boots,1,a.png\n'
        "\n"
        "third,Boots,oops,a.png\n"
    )

    assert refusal(CsvSource(path), task).startswith(f"{path}: row 4: full_price 'oops'")
