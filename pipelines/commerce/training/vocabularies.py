"""Writes the vocabularies from training events: `python vocabularies.py DUMP`. Line 0 stands for unknown words."""

import json
import sys
from pathlib import Path

from tasks import FOLDER, ORDER_RISK

if __name__ == "__main__":
    words: dict[str, set[str]] = {name: set() for name in ORDER_RISK.categories}
    with open(Path(sys.argv[1]) / ORDER_RISK.events, encoding="utf-8") as lines:
        for line in map(json.loads, lines):
            if line["split"] == "train":
                for name in words:
                    words[name].add(line["event"][name] or "")
    (FOLDER / "vocabularies").mkdir(exist_ok=True)
    for name, found in words.items():
        text = "\n".join(["<unknown>", *sorted(found - {""})]) + "\n"
        (FOLDER / "vocabularies" / f"{name}.txt").write_text(text, encoding="utf-8")
