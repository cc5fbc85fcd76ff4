"""Which messages belong together: those that answer each other, however many steps apart."""

import hashlib
from collections.abc import Iterable


class Threads:
    """Union-find over names: messages that answer each other end in one group."""

    def __init__(self) -> None:
        self.parent: dict[int, int] = {}

    def find(self, name: str) -> int:
        return self.root(hash_name(name))

    def root(self, key: int) -> int:
        while (above := self.parent.setdefault(key, key)) != key:
            self.parent[key] = self.parent[above]
            key = above
        return key

    def join(self, names: Iterable[str]) -> None:
        first, *others = names
        for name in others:
            # the smaller key is the group's name, whatever the order of the messages
            low, high = sorted((self.find(first), self.find(name)))
            self.parent[high] = low


def hash_name(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(errors="replace"), digest_size=8).digest())
