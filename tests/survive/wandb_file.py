"""What W&B keeps of a run on disk: protobuf records in LevelDB's log format, after a header of 7 bytes.

Blocks of 32 KiB hold pieces of a checksum (4 bytes), a length (2), a kind (1) and data; a piece is a whole record (1),
or the first (2), a middle (3) or the last (4) part of one: https://github.com/google/leveldb/blob/main/doc/log_format.md
"""

import json
import struct
from pathlib import Path
from typing import Any

BLOCK = 32768


def read_records(path: Path) -> list[bytes]:
    content, at, records, part = path.read_bytes(), 7, [], b""
    while at + 7 <= len(content):
        if (left := BLOCK - at % BLOCK) < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        if kind == 0:
            break
        part += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            records.append(part)
            part = b""
    return records


def read_history(path: Path) -> list[dict[str, Any]]:
    """The rows that were logged, by key."""
    from wandb.proto.wandb_internal_pb2 import Record

    rows = []
    for content in read_records(path):
        record = Record.FromString(content)
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            rows.append({".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items})
    return rows
