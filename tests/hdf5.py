"""Reads the small contiguous datasets of DeepSurv's HDF5 files: version 0 files, groups of symbol tables, no compression.

Source: HDF5 File Format Specification, version 1.1, sections II.A (superblock), III.A-D (groups), IV.A (object headers).
"""

import struct

import numpy as np

SIGNATURE = b"\x89HDF\r\n\x1a\n"
ROOT_ENTRY = 56
ENTRY_BYTES = 40


def read_hdf5(path):
    """Returns {group: {dataset: array}} of a file."""
    content = path.read_bytes()
    assert content[:8] == SIGNATURE
    assert content[8] == 0, "only version 0 files"
    return _read_object(content, struct.unpack_from("<Q", content, ROOT_ENTRY + 8)[0])


def _read_object(content, address):
    """A group as a dictionary, or a dataset as an array."""
    messages = dict(_messages(content, address))
    if 0x11 in messages:
        tree, heap = struct.unpack_from("<QQ", messages[0x11])
        names = struct.unpack_from("<Q", content, heap + 24)[0]
        return dict(_members(content, tree, names))
    space, kind, layout = messages[0x01], messages[0x03], messages[0x08]
    first = 8 if space[0] == 1 else 4
    shape = struct.unpack_from(f"<{space[1]}Q", space, first)
    size = struct.unpack_from("<I", kind, 4)[0]
    dtype = np.dtype(f"<{'f' if kind[0] & 15 == 1 else 'i'}{size}")
    assert layout[:2] == b"\x03\x01", "only contiguous data"
    start = struct.unpack_from("<Q", layout, 2)[0]
    return np.frombuffer(content, dtype, int(np.prod(shape)), start).reshape(shape)


def _members(content, tree, names):
    assert content[tree : tree + 4] == b"TREE"
    level, used = content[tree + 5], struct.unpack_from("<H", content, tree + 6)[0]
    for index in range(used):
        child = struct.unpack_from("<Q", content, tree + 24 + 8 + 16 * index)[0]
        if level:
            yield from _members(content, child, names)
            continue
        count = struct.unpack_from("<H", content, child + 6)[0]
        for entry in range(count):
            name, header = struct.unpack_from("<QQ", content, child + 8 + ENTRY_BYTES * entry)
            end = content.index(b"\0", names + name)
            yield content[names + name : end].decode(), _read_object(content, header)


def _messages(content, address):
    """(type, data) of a version 1 object header and its continuations."""
    assert content[address] == 1, "only version 1 object headers"
    blocks = [(address + 16, struct.unpack_from("<I", content, address + 8)[0])]
    while blocks:
        start, length = blocks.pop(0)
        place = start
        while place + 8 <= start + length:
            kind, size = struct.unpack_from("<HH", content, place)
            data = content[place + 8 : place + 8 + size]
            if kind == 0x10:
                blocks.append(struct.unpack_from("<QQ", data))
            yield kind, data
            place += 8 + size
