"""Reading HTML as a browser would: well-formed, self-contained, and what its tables say."""

from html.parser import HTMLParser

VOID = {"meta", "br", "hr", "img", "link", "input"}
FORBIDDEN = {"script", "link", "iframe", "object", "embed", "img", "form", "base"}


class Page(HTMLParser):
    """Parses HTML, and complains of tags that do not match and of anything that loads or runs."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.texts, self.tables = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        assert tag not in FORBIDDEN, tag
        attributes = dict(attrs)
        assert len(attributes) == len(attrs), "an attribute twice"
        for name, value in attrs:
            assert not name.startswith("on") and name not in ("href", "src", "srcset"), name
            assert name == "xmlns" or "//" not in (value or "") or tag == "meta", (name, value)
        self.tags.append((tag, attributes))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "style":
            assert "url(" not in data and "@import" not in data
            return
        self.texts.append(data)
        if {"th", "td"} & set(self.open):
            self.tables[-1][-1][-1] += data

    @property
    def text(self):
        return "\n".join(self.texts)

    def attributes(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    def rows(self, *head):
        """Return the rows, below the head, of the table that has this head."""
        return next(table[1:] for table in self.tables if table[0][: len(head)] == list(head))
