"""Fetching pictures: resumes, names every failure, loses no row. The server runs here."""

import csv
import io
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from phi3v.data import CsvSource, fetch_pictures
from phi3v.errors import UserError


def picture(mode="RGB", kind="JPEG", size=(40, 30)) -> bytes:
    content = io.BytesIO()
    Image.new(mode, size, 128).save(content, kind)
    return content.getvalue()


class Shop(BaseHTTPRequestHandler):
    """Serves good pictures, and everything that goes wrong in the field."""

    def do_GET(self):
        self.server.asked.append(self.path)
        name = self.path.strip("/")
        if name == "gone":
            return self.send_error(404, "Not Found")
        if name == "flaky" and self.server.asked.count(self.path) == 1:
            return self.send_error(503, "Busy")
        if name == "silent":
            time.sleep(1.0)
        bodies = {"page": b"<html>sold out</html>", "alpha": picture("RGBA", "PNG")}
        body = bodies.get(name, picture())
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if name == "short" else body)
        return None

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Shop) as running:
        running.asked = []
        running.daemon_threads = True
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def table(tmp_path, server):
    def write(*names):
        path = tmp_path / "burberry.csv"
        host = f"http://127.0.0.1:{server.server_port}"
        lines = ["product_code,title,category3_code,full_price,imageurl,local_image_path"]
        for code, name in names:
            url = name if ":" in name else f"{host}/{name}"
            lines.append(f"{code},Scarf {name},Scarves,470,{url},old.jpg")
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


def read(path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_row_ends_up_in_one_of_the_two_tables(table, tmp_path):
    names = [("1", "a"), ("2", "gone"), ("3", "page"), ("4", "alpha"), ("5", "file:///etc/hosts")]

    report = fetch_pictures(table(*names), tmp_path / "out", retries=0)

    assert (report.fetched, report.present, report.failed) == (2, 0, 3)
    assert [row["product_code"] for row in read(report.table)] == ["1", "4"]
    reasons = {row["row"]: row["reason"] for row in read(report.failures)}
    assert reasons["3"] == "HTTP 404 Not Found"
    assert reasons["4"].startswith("not a picture (")
    assert reasons["6"].startswith("not an http address")
    assert "title" in read(report.failures)[0]


def test_a_strangers_picture_that_unpacks_to_gigabytes_is_a_failure(table, tmp_path, monkeypatch):
    monkeypatch.setattr("phi3v.data.download._MOST_PIXELS", 100)
    report = fetch_pictures(table(("1", "a")), tmp_path / "out", retries=0)
    assert (report.fetched, report.failed) == (0, 1)
    assert read(report.failures)[0]["reason"].startswith("not a picture (")


def test_a_row_with_other_than_the_headers_cells_is_a_failure_too(table, tmp_path):
    path = table(("1", "a"))
    path.write_text(path.read_text() + "2,Scarf, red,Scarves,470,http://nowhere/b,old.jpg\n")
    report = fetch_pictures(path, tmp_path / "out")
    assert (report.fetched, report.failed) == (1, 1)
    (bad,) = read(report.failures)
    assert bad["row"] == "3"
    assert bad["reason"].startswith("7 cells where the header has 6")


def test_addresses_with_blanks_and_letters_beyond_ascii_are_asked_for_encoded(
    table, server, tmp_path
):
    path = table(("1", "Größe 1"), ("2", "a%20b?c=d&e"))

    report = fetch_pictures(path, tmp_path / "out", retries=0)

    assert (report.fetched, report.failed) == (2, 0)
    assert sorted(server.asked) == ["/Gr%C3%B6%C3%9Fe%201", "/a%20b?c=d&e"]


def test_the_delimiter_of_the_table_can_be_given(table, tmp_path):
    path = table(("1", "a"))
    path.write_text(path.read_text().replace(",", ";"))

    report = fetch_pictures(path, tmp_path / "out", delimiter=";")

    assert (report.fetched, report.failed) == (1, 0)
    assert read(report.table)[0]["product_code"] == "1"


def test_the_table_can_be_trained_on(table, tmp_path, task):
    report = fetch_pictures(table(("1", "a"), ("2", "alpha")), tmp_path / "out")

    examples = CsvSource(report.table).load(task)

    assert [example.images[0].suffix for example in examples] == [".jpeg", ".png"]
    assert all(example.images[0].parent == tmp_path / "out/images" for example in examples)


def test_a_silent_server_is_given_up_and_what_was_cut_short_is_not_kept(table, tmp_path):
    report = fetch_pictures(
        table(("1", "silent"), ("2", "short")), tmp_path / "out", timeout=0.3, retries=0
    )

    silent, short = read(report.failures)
    assert "timed out" in silent["reason"]
    assert "bytes came" in short["reason"]
    assert list((tmp_path / "out/images").iterdir()) == []


def test_what_may_pass_is_tried_again_and_what_is_gone_is_not(table, tmp_path, server):
    report = fetch_pictures(table(("1", "flaky"), ("2", "gone")), tmp_path / "out", retries=1)

    assert (report.fetched, report.failed) == (1, 1)
    assert sorted(server.asked) == ["/flaky", "/flaky", "/gone"]


def test_a_second_call_fetches_only_what_is_missing(table, tmp_path, server):
    path = table(("1", "a"), ("2", "b"), ("3", "gone"))
    first = fetch_pictures(path, tmp_path / "out")
    (tmp_path / "out" / read(first.table)[1]["local_image_path"]).unlink()
    server.asked.clear()

    second = fetch_pictures(path, tmp_path / "out")

    assert sorted(server.asked) == ["/b", "/gone"]
    assert (second.fetched, second.present, second.failed) == (1, 1, 1)
    assert read(second.table) == read(first.table)


def test_equal_product_codes_overwrite_nothing(table, tmp_path, server):
    report = fetch_pictures(table(("7", "a"), ("7", "b"), ("7", "a")), tmp_path / "out")

    paths = [row["local_image_path"] for row in read(report.table)]
    assert len(paths) == 3
    assert paths[0] == paths[2] != paths[1]
    assert sorted(server.asked) == ["/a", "/b"]


def test_a_table_without_addresses_is_refused(tmp_path):
    (tmp_path / "shop.csv").write_text("title,image_url\na,b\n")

    with pytest.raises(UserError, match=r"no column 'imageurl'; did you mean 'image_url'\?"):
        fetch_pictures(tmp_path / "shop.csv", tmp_path / "out")
