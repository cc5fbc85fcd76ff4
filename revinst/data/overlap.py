"""How alike texts are: Jaccard similarity of character 5-grams, near-duplicates, nearest texts.

Shingles are the distinct 5-character windows of the normalised text, as 64-bit hashes. Pairs come from MinHash with
banding (https://en.wikipedia.org/wiki/MinHash) and are then checked exactly. W windows of all texts, end to end.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from functools import lru_cache

import numpy as np

from revinst.data.words import normalise
from revinst.progress import Stage

SHINGLE = 5
THRESHOLD = 0.7
# MinHash's word for the hash functions of a band is rows.
# A pair at the threshold shares a band of 4 with probability 0.7^4, so all 48 miss it with (1 - 0.7^4)^48 = 2e-6.
ROWS_PER_BAND = 4
BANDS_PER_ROUND = 16  # 64 bytes a text are kept at a time
ROUNDS = 3
BLOCK_CHARACTERS = 1_000_000  # hashing takes some 60 times as many bytes
SHINGLES_KEPT = 1_000  # sets: of a text of 1,500 words 70 kB
FACTORS = np.random.default_rng(0).integers(0, 2**63, size=1024, dtype=np.uint64) * np.uint64(2) + np.uint64(1)


def hash_windows(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(uint64 `[W]`, int64 `[len(texts) + 1]`): hashes of all windows and where each text's begin.

    A text shorter than a window is one window, an empty one has none.
    """
    padded = [text.ljust(SHINGLE, "\0") if text else "" for text in texts]
    codes = np.frombuffer("".join(padded).encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    lengths = np.fromiter(map(len, padded), np.int64, len(padded))
    counts = np.maximum(lengths - (SHINGLE - 1), 0)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    first = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    position = np.repeat(first - offsets[:-1], counts) + np.arange(offsets[-1])
    hashes = np.zeros(len(position), dtype=np.uint64)
    for place in range(SHINGLE):
        hashes += codes[position + place] * FACTORS[place]
    for shift in (32, 29):
        hashes = (hashes ^ (hashes >> np.uint64(shift))) * FACTORS[SHINGLE]
    return hashes ^ (hashes >> np.uint64(32)), offsets


def shingles_of(text: str) -> np.ndarray:
    """Distinct window hashes of one normalised text, sorted."""
    return np.unique(hash_windows([text])[0])


def jaccards(text: np.ndarray, others: Sequence[np.ndarray]) -> np.ndarray:
    """Similarity of one set of shingles to each of the others, float64."""
    sizes = np.fromiter(map(len, others), np.int64, len(others))
    joined = np.concatenate(others)
    place = np.minimum(np.searchsorted(text, joined), len(text) - 1)
    shared = np.add.reduceat(text[place] == joined, np.cumsum(sizes) - sizes, dtype=np.int64)
    return shared / (len(text) + sizes - shared)


def near_duplicates(
    texts: Sequence[str],
    threshold: float = THRESHOLD,
    skip: Callable[[int, int], bool] = lambda i, j: False,
    name: str = "texts",
) -> Iterator[tuple[int, int]]:
    """Yields pairs (i, j), i < j, of non-empty normalised texts whose similarity is at least `threshold`.

    skip: pairs for which it is true are not compared, e.g. because they are known to belong together. A pair that is
    not skipped then may come once a round. Memory: 64 bytes a text and the shingles of SHINGLES_KEPT texts.

    name: what the texts are, for the progress of a long search.
    """
    shingles = lru_cache(maxsize=SHINGLES_KEPT)(lambda place: shingles_of(texts[place]))
    with Stage(
        f"near-duplicates among {len(texts):,} {name}, {ROUNDS} rounds", ROUNDS * len(texts), brief=True
    ) as stage:
        for number in range(ROUNDS):
            keys = band_keys(texts, number, stage.advance)
            for i, others in candidates_of(keys):
                unknown = [j for j in others.tolist() if not skip(i, j)]
                if not unknown:
                    continue
                similar = jaccards(shingles(i), [shingles(j) for j in unknown]) >= threshold
                yield from ((i, j) for j, is_similar in zip(unknown, similar, strict=True) if is_similar)


def candidates_of(keys: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(text, later texts that share a band with it) by number, a pair once. keys: of `band_keys`."""
    for band in range(keys.shape[1]):
        for run in equal_runs(keys[:, band]):
            for place, i in enumerate(run[:-1].tolist()):
                rest = run[place + 1 :]
                # else an earlier band compared them
                yield i, rest[~(keys[rest, :band] == keys[i, :band]).any(1)]


def band_keys(texts: Sequence[str], number: int, on_texts: Callable[[int], None] = lambda count: None) -> np.ndarray:
    """uint32 `[len(texts), BANDS_PER_ROUND]`: equal keys in a column make two texts candidates."""
    keys = np.empty((len(texts), BANDS_PER_ROUND), dtype=np.uint32)
    base = SHINGLE + 1 + number * BANDS_PER_ROUND * ROWS_PER_BAND
    for start, block in blocks_of(texts):
        stop = start + len(block)
        hashes, offsets = hash_windows(block)
        for band in range(BANDS_PER_ROUND):
            key = np.zeros(stop - start, dtype=np.uint64)
            for place in range(ROWS_PER_BAND):
                values = (hashes * FACTORS[base + band * ROWS_PER_BAND + place]) >> np.uint64(32)
                key = (key + np.minimum.reduceat(values, offsets[:-1])) * FACTORS[-1 - place]
            keys[start:stop, band] = key >> np.uint64(32)
        on_texts(len(block))
    return keys


def equal_runs(keys: np.ndarray) -> Iterator[np.ndarray]:
    """Texts with equal keys, two or more at a time: `[7, 3, 7, 7]` -> `[0, 2, 3]`."""
    order = np.argsort(keys, kind="stable")
    bounds = np.flatnonzero(np.diff(keys[order])) + 1
    starts, stops = np.concatenate([[0], bounds]), np.concatenate([bounds, [len(keys)]])
    for number in np.flatnonzero(stops - starts > 1):
        yield order[starts[number] : stops[number]]


def blocks_of(texts: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """(number of its first text, texts) of about BLOCK_CHARACTERS each, so that memory does not grow with the data."""
    start, block, characters = 0, [], 0
    for text in texts:
        block.append(text)
        characters += len(text)
        if characters >= BLOCK_CHARACTERS:
            yield start, block
            start, block, characters = start + len(block), [], 0
    if block:
        yield start, block


def find_nearest_texts(texts: Sequence[str], others: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
    """For each text the index in `others` of the most similar one and its similarity, exact.

    texts, others: as people wrote them; they are normalised here. Returns int64 and float64 `[len(texts)]`; -1 and 0.0
    where nothing shares a shingle (an empty text never does). Time grows with both lengths multiplied.
    """
    queries = [shingles_of(normalise(text)) for text in texts]
    best, index = np.zeros(len(texts)), np.full(len(texts), -1, dtype=np.int64)
    total = len(others) if isinstance(others, Sized) else None
    with Stage("nearest texts", total, brief=True) as stage:
        for start, block in blocks_of(map(normalise, others)):
            compare_block(queries, [shingles_of(other) for other in block], start, best, index)
            stage.advance(len(block))
    return index, best


def compare_block(
    queries: Sequence[np.ndarray], sets: Sequence[np.ndarray], start: int, best: np.ndarray, index: np.ndarray
) -> None:
    """Raises `best` and `index` of the queries that one of the sets is nearer to; start: number of the first set."""
    sizes = np.fromiter(map(len, sets), np.int64, len(sets))
    joined = np.concatenate([*sets, np.zeros(0, np.uint64)])
    order = np.argsort(joined, kind="stable")
    postings, owner = joined[order], np.repeat(np.arange(len(sets)), sizes)[order]
    for number, query in enumerate(queries):
        low = np.searchsorted(postings, query)
        counts = np.searchsorted(postings, query, side="right") - low
        ends = np.cumsum(counts)
        if not len(ends) or not ends[-1]:
            continue
        hits = np.repeat(low - ends + counts, counts) + np.arange(ends[-1])
        shared = np.bincount(owner[hits], minlength=len(sets))
        similarity = shared / (len(query) + sizes - shared)
        place = int(similarity.argmax())
        if similarity[place] > best[number]:
            best[number], index[number] = similarity[place], start + place
