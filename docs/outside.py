"""mdBook runs this before it renders: links that leave docs/ lead to the forge, or become the path of what they name."""

import json
import posixpath
import re
import sys

LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
CODE = re.compile(r"(^```.*?^```|`[^`\n]+`)", re.MULTILINE | re.DOTALL)


def rewritten(text, folder, address):
    """The text of a page in this folder of docs/, its links out of docs/ replaced."""

    def link(found):
        words, target = found.groups()
        path = posixpath.normpath(posixpath.join("docs", folder, target))
        if re.match(r"[a-z]+:|#", target) or path.startswith("docs/"):
            return found.group()
        if address:
            return f"[{words}]({address}/{path})"
        path = path.split("#")[0]
        return words if words.strip("`") in path else f"{words} (`{path}`)"

    # Outside of code: every other part.
    parts = CODE.split(text)
    links = {}

    # A link's words may hold code, so code is taken out for the moment and put back.
    for index in range(1, len(parts), 2):
        key = f"\0{index}\0"
        links[key], parts[index] = parts[index], key
    text = LINK.sub(link, "".join(parts))
    return re.sub(r"\0\d+\0", lambda found: links[found.group()], text)


def visit(items, address):
    for item in items:
        chapter = item.get("Chapter") if isinstance(item, dict) else None
        if chapter:
            folder = posixpath.dirname(chapter["path"] or "")
            chapter["content"] = rewritten(chapter["content"], folder, address)
            visit(chapter["sub_items"], address)


if __name__ == "__main__":
    if sys.argv[1:2] == ["supports"]:
        sys.exit(0)
    context, book = json.load(sys.stdin)
    address = context["config"]["preprocessor"]["outside"].get("address", "").rstrip("/")
    visit(book.get("items", book.get("sections", [])), address)
    json.dump(book, sys.stdout)
