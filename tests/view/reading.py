"""A strict HTML parser for tests."""

from html.parser import HTMLParser

VOID = {"img", "input", "link", "meta", "br", "source"}


class Drawn(HTMLParser):
    """The elements of an HTML fragment: tag, attributes and own text of each. Mismatched tags are an error."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.elements = []
        self._open = []
        self.feed(html)
        self.close()
        assert not self._open, f"not closed: {self._open}"
        ids = [attributes["id"] for _, attributes, _ in self.elements if "id" in attributes]
        assert len(ids) == len(set(ids)), f"an id comes twice: {ids}"

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names)), f"an attribute comes twice: {names}"
        element = (tag, dict(attributes), [])
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self._open and self._open.pop()[0] == tag, f"</{tag}> closes another"

    def handle_data(self, data):
        for _, _, text in self._open:
            text.append(data)

    def all(self, tag, name=None):
        """Attributes and text of each element with this tag, and class if given."""
        return [
            (attributes, " ".join("".join(text).split()))
            for found, attributes, text in self.elements
            if found == tag and (name is None or name in attributes.get("class", "").split())
        ]

    def texts(self, tag, name=None):
        return [text for _, text in self.all(tag, name)]
