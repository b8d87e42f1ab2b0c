"""The human-rated texts, and which of them are for training. From vaderSentiment's source archive (MIT): tweets and
sentences of Amazon reviews, each with the mean of some twenty people's ratings from -4 to 4."""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

INNER = "additional_resources/hutto_ICWSM_2014.tar.gz"
FILES = {"tweets": "tweets_GroundTruth.txt", "amazon": "amazonReviewSnippets_GroundTruth.txt"}


@dataclass(frozen=True)
class Texts:
    ids: list[str]
    texts: list[str]
    sources: np.ndarray
    labels: np.ndarray  # 1: the mean rating is above 0
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def share(unit: str) -> float:
    """A number from 0 to 1 that depends on nothing but the name."""
    return int(hashlib.sha256(unit.encode()).hexdigest()[:8], 16) / 2**32


def read(archive: Path) -> Texts:
    ids, texts, sources, labels, shares = [], [], [], [], []
    with tarfile.open(archive) as outer:
        (member,) = [m for m in outer.getmembers() if m.name.endswith(INNER)]
        inner = outer.extractfile(member).read()
    with tarfile.open(fileobj=io.BytesIO(inner)) as files:
        for source, name in FILES.items():
            (member,) = [m for m in files.getmembers() if m.name.endswith("/" + name)]
            for line in files.extractfile(member).read().decode("utf-8", "replace").splitlines():
                number, rating, text = line.split("\t", 2)
                # Sentences of one review (`12_3` is the third of the twelfth) stay together.
                unit = number.split("_")[0] if source == "amazon" else number
                ids.append(f"{source}-{number}")
                texts.append(text)
                sources.append(source)
                labels.append(int(float(rating) > 0))
                shares.append(share(f"{source}:{unit}"))
    shares = np.array(shares)
    return Texts(
        ids=ids,
        texts=texts,
        sources=np.array(sources),
        labels=np.array(labels),
        train=shares < 0.6,
        validation=(shares >= 0.6) & (shares < 0.75),
        test=shares >= 0.75,
    )
