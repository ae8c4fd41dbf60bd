"""A page of HTML as a browser reads it.

page = Page(html)
page.count("table"), page.text
"""

from html.parser import HTMLParser

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Checks that tags nest, and collects texts and attributes by tag."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.texts = [], [], []
        self.feed(html)
        self.close()
        assert self.open == [], f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "title"):
            self.texts.append(data.replace("\u00a0", " "))

    def count(self, tag, style=None):
        return sum(t == tag and (style is None or a.get("class") == style) for t, a in self.tags)

    @property
    def text(self):
        return " ".join(self.texts)
