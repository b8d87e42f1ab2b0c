"""Looks for links in a built book that lead to no file of it, or to no anchor."""

import pathlib
import sys
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The links and the ids of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.ids = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "id":
                self.ids.add(value)
            elif name in ("href", "src") and value:
                self.links.append(value)


book = pathlib.Path(sys.argv[1]).resolve()
# These two are shown from any address and so link from the book's root; print.html has every page's links once more.
files = [file for file in book.rglob("*.html") if file.name not in ("404.html", "print.html", "toc.html")]
pages = {file: Page(file.read_text()) for file in files}
broken, links = [], 0
for file, page in pages.items():
    for link in page.links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        links += 1
        target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
        known = pages.get(target)
        if not target.is_file() or (parts.fragment and known and unquote(parts.fragment) not in known.ids):
            broken.append(f"{file.relative_to(book)}: {link}")
print("\n".join(broken) or f"{links} links on {len(files)} pages of the book lead somewhere")
sys.exit(1 if broken or not links else 0)
