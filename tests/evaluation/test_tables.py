"""The tables of the report that are counted: which label was taken for which."""

import re

from phi3v.evaluation.tables import confusion_table


def cells(table):
    rows = re.findall(r"<tr>(.*?)</tr>", table)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]


def test_confusions_are_counted_by_label_with_a_column_for_the_unread():
    truths = ["Hat", "hat", "Hat", "Shoe", "Shoe"]
    table = cells(confusion_table(truths, ["hat", "Shoe", None, "shoe", "Sock"]))
    assert table[0][1:] == ["1", "2", "other", "not parsed"]
    assert table[1] == ["1&nbsp;&nbsp;Hat", "1", "1", "", "1"]
    assert table[2] == ["2&nbsp;&nbsp;Shoe", "", "1", "1", ""]


def test_rare_labels_are_summed_up_and_a_label_called_other_is_its_own():
    truths = [f"c{index:02}" for index in range(12)] + ["other"] * 2
    table = cells(confusion_table(truths, truths))
    assert len(table) == 1 + 10 + 1
    assert table[1][0] == "1&nbsp;&nbsp;other"
    assert table[1][1] == "2"
    assert table[-1][0] == "other labels"
    assert table[-1][-1] == "3"
