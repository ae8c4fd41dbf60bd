"""A CSV file becomes examples: names, groups, pictures, and the ways of writing it."""

import pytest

from phi3v.data import CsvSource


def test_a_row_becomes_an_example(write_shop, shop_rows, task):
    path = write_shop(shop_rows(3))

    examples = CsvSource(path).load(task)

    assert [example.id for example in examples] == ["p000", "p001", "p002"]
    assert examples[1].images == (path.parent / "images/1.png",)
    assert examples[1].values == {
        "title": "Scarf number 1 long",
        "category3_code": "Boots",
        "full_price": 101.5,
    }
    assert examples[1].origin == "products.csv row 3"


def test_columns_may_have_other_names(write_shop, shop_rows, task):
    rows = [row | {"Preis": row.pop("full_price")} for row in shop_rows(2)]

    examples = CsvSource(write_shop(rows), columns={"full_price": "Preis"}).load(task)

    assert examples[1].values["full_price"] == 101.5


def test_a_byte_order_mark_a_semicolon_and_a_quoted_line_break_are_read(tmp_path, draw, task):
    draw(tmp_path / "a.png")
    path = tmp_path / "shop.csv"
    path.write_bytes(
        b"\xef\xbb\xbftitle;category3_code;full_price;local_image_path\r\n"
        b'"Two\r\nlines";Boots;1,290.00;a.png\r\n'
        b'"Said ""no""";Boots;5;a.png\r\n'
    )

    first, second = CsvSource(path, delimiter=";").load(task)

    assert first.values["title"] == "Two\r\nlines"
    assert first.values["full_price"] == 1290.0
    assert second.values["title"] == 'Said "no"'
    assert second.origin == "shop.csv row 3"


def test_several_pictures_stand_in_one_cell(write_shop, shop_rows, draw, task, tmp_path):
    rows = shop_rows(1)
    path = write_shop(rows)
    draw(tmp_path / "images/b.png", seed=9)
    path = write_shop([rows[0] | {"local_image_path": "images/0.png; images/b.png"}])

    (example,) = CsvSource(path).load(task)

    assert [image.name for image in example.images] == ["0.png", "b.png"]


def test_pictures_may_lie_elsewhere(write_shop, shop_rows, task, tmp_path):
    path = write_shop(shop_rows(1))
    (tmp_path / "images").rename(tmp_path / "pictures")
    rows = [shop_rows(1)[0] | {"local_image_path": "0.webp"}]
    (tmp_path / "pictures/0.png").rename(tmp_path / "pictures/0.webp")
    path = write_shop(rows)

    (example,) = CsvSource(path, image_root=tmp_path / "pictures").load(task)

    assert example.images == (tmp_path / "pictures/0.webp",)


def test_without_an_id_column_examples_keep_their_names_wherever_their_rows_stand(
    write_shop, shop_rows, task
):
    rows = shop_rows(3)
    columns = [column for column in rows[0] if column != "product_code"]

    def named(rows):
        examples = CsvSource(write_shop(rows, columns)).load(task)
        return {example.id: example.values["title"] for example in examples}

    first = named(rows[:2])
    assert list(first) == [row["local_image_path"] for row in rows[:2]]
    assert named(rows[::-1]).items() > first.items()


def test_equal_ids_get_a_free_suffix_and_stay_in_one_group(write_shop, shop_rows, task):
    rows = shop_rows(5)
    for row, code in zip(rows, ["7", "7", "7-2", "7", "8"], strict=True):
        row["product_code"] = code

    examples = CsvSource(write_shop(rows)).load(task)

    assert [example.id for example in examples] == ["7", "7-3", "7-2", "7-4", "8"]
    first, second, other, third, last = (example.group for example in examples)
    assert first == second == third
    assert len({first, other, last}) == 3


def test_group_by_joins_equal_titles_in_any_case_and_spacing(write_shop, shop_rows, task):
    rows = shop_rows(4)
    for row, title in zip(rows, ["Red Scarf", "red  scarf", "Blue Scarf", "blue"], strict=True):
        row["title"] = title
    rows[3]["product_code"] = rows[2]["product_code"]

    groups = [
        example.group for example in CsvSource(write_shop(rows), group_by=["title"]).load(task)
    ]

    assert groups[0] == groups[1] != groups[2] == groups[3]


def test_empty_lines_before_the_header_do_no_harm(tmp_path, draw, task):
    draw(tmp_path / "a.png")
    path = tmp_path / "products.csv"
    path.write_text("\n\ntitle,category3_code,full_price,local_image_path\nscarf,Scarves,1,a.png\n")
    assert CsvSource(path).load(task)[0].origin == "products.csv row 4"


@pytest.mark.parametrize("delimiter", ["\t", "\\t", "tab"])
def test_a_tab_can_be_written_in_several_ways(tmp_path, draw, task, delimiter):
    draw(tmp_path / "a.png")
    path = tmp_path / "products.csv"
    lines = ["title,category3_code,full_price,local_image_path", "scarf,Scarves,1,a.png"]
    path.write_text("\n".join(lines).replace(",", "\t"))
    assert len(CsvSource(path, delimiter=delimiter).load(task)) == 1
