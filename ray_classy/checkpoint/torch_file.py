"""Reads the files that `torch.save` writes: a ZIP archive of a pickle and storages, or, of old, one stream of both."""

from __future__ import annotations

import mmap
import struct
import zipfile
import zlib
from typing import Any

import torch

from ray_classy.checkpoint.buffers import BufferFile, tensor_of
from ray_classy.checkpoint.plain import check_plain
from ray_classy.checkpoint.unpickle import Unpickler, most_bytes
from ray_classy.errors import CheckpointError, UnsupportedFileError

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_MOST_PICKLE_BYTES = 128 * 2**20
"""Bytes of the pickle in an archive; those of a thousand tensors are about 200 KiB."""
_BLOCK = 2**20
_ALIGNED = 16
"""Bytes to whose multiples a record must be aligned, to be used in place; torch writes multiples of 64."""
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError)
"""What zipfile and zlib raise for archives that are damaged."""
_LEGACY_MAGIC, _LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def is_torch_file(data: bytes | mmap.mmap) -> bool:
    """Whether bytes begin as such a file does."""
    return data[:4] == _ZIP or data[:1] == _PICKLE


def read_torch_file(
    data: bytes | mmap.mmap, storages: bool = True, foreign: set[str] | None = None, shared: bool = False
) -> Any:
    """Returns the content of a file that `torch.save` wrote, with its tensors on the CPU.

    Args:
        data: the file.
        storages: read the numbers in the tensors; False makes tensors without, on the meta device.
        foreign: gets the names of classes that are not known, for whose objects `Foreign` stands; None refuses them.
        shared: make tensors that are parts of `data` where that is possible, and are not to be changed.

    Raises:
        CheckpointError: it is damaged, holds something else than dense tensors and plain values, or would take much
            more memory than the file has bytes.
        UnsafeFileError: with `foreign`: it names functions that run commands or code.
        UnsupportedFileError: it is a TorchScript program.
    """
    if data[:4] == _ZIP:
        content = _read_archive(data, storages, foreign, shared)
    else:
        try:
            content = _read_legacy(data, foreign)
        except CheckpointError:
            if data[:1] != _PICKLE:
                raise CheckpointError("it is not a file that torch.save wrote") from None
            raise
    check_plain(content)
    return content


def _read_archive(data: bytes | mmap.mmap, storages: bool, foreign: set[str] | None, shared: bool) -> Any:
    try:
        with zipfile.ZipFile(BufferFile(data)) as archive:
            return _Archive(archive, len(data), memoryview(data) if shared else None).content(storages, foreign)
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        NotImplementedError,
        LookupError,
        ValueError,
        EOFError,
        OSError,
    ) as error:
        if isinstance(error, CheckpointError):
            raise
        unsummed = "; or torch wrote it without checksums (set_crc32_options): write it with them"
        raise CheckpointError(f"its archive is damaged: {error}{unsummed if 'CRC' in str(error) else ''}") from None


class _Archive:
    """An archive whose records are read at most once each, and have at most so many bytes as the file allows."""

    def __init__(self, archive: zipfile.ZipFile, file_size: int, data: memoryview | None) -> None:
        self._archive = archive
        self._data = data
        self._most = most_bytes(file_size)
        records = archive.infolist()
        self._sizes = {record.filename: record.file_size for record in records}
        if len(self._sizes) < len(records):
            raise CheckpointError("its archive has two records of one name")
        if sum(self._sizes.values()) > self._most:
            raise CheckpointError("its archive unpacks to much more than the file has bytes")
        if self._folders("constants.pkl"):
            raise UnsupportedFileError(
                "it is a TorchScript program, which runs code: where it was made, write the weights alone with "
                "torch.save(model.state_dict(), 'weights.pth')"
            )
        folders = self._folders("data.pkl")
        if len(folders) != 1:
            raise CheckpointError("its archive has no data.pkl, or several")
        (self._folder,) = folders
        self._read: dict[str, torch.UntypedStorage] = {}

    def _folders(self, file: str) -> list[str]:
        return [name.removesuffix(file) for name in self._sizes if f"/{name}".endswith(f"/{file}")]

    def content(self, storages: bool, foreign: set[str] | None) -> Any:
        """Returns what the archive holds; without storages, tensors on the meta device."""
        pickle = f"{self._folder}data.pkl"
        if self._sizes[pickle] > _MOST_PICKLE_BYTES:
            raise CheckpointError(f"its pickle has {self._sizes[pickle]:,} bytes")
        order = f"{self._folder}byteorder"
        written = self._record(order) if order in self._sizes else b"little"
        if written not in (b"little", b"big"):
            raise CheckpointError("its archive names an unknown order of bytes")
        self._swapped = written == b"big"
        read_storage = self._storage if storages else self._empty
        return Unpickler(self._record(pickle), read_storage, self._most, foreign).load()

    def _record(self, name: str) -> bytearray:
        """Reads a record, and compares its checksum; no more is unpacked than it claims to have."""
        content, at = bytearray(self._sizes[name]), 0
        record: Any
        with self._archive.open(name) as record, memoryview(content) as view:
            while count := record.readinto(view[at : at + _BLOCK]):  # in place: tensors take it as it is
                at += count
            if at < len(content) or record.read(1):
                raise CheckpointError(f"its record {name} has another size than it claims")
        return content

    def _part(self, name: str) -> memoryview | None:
        """Returns the part of the file that is a record, and compares its checksum; None if it must be copied."""
        record = self._archive.getinfo(name)
        if self._data is None or self._swapped or record.compress_type != zipfile.ZIP_STORED or not record.file_size:
            return None
        lengths = self._data[record.header_offset + 26 : record.header_offset + 30]
        at = record.header_offset + 30 + sum(struct.unpack("<HH", lengths))
        part = self._data[at : at + record.file_size]
        if at % _ALIGNED or len(part) < record.file_size:
            return None
        if zlib.crc32(part) != record.CRC:
            raise zipfile.BadZipFile(f"Bad CRC-32 for file {name!r}")
        return part

    def _empty(self, key: str, dtype: torch.dtype, count: int) -> torch.UntypedStorage:
        self._check(key, dtype, count)
        return torch.UntypedStorage(count * dtype.itemsize, device="meta")

    def _storage(self, key: str, dtype: torch.dtype, count: int) -> torch.UntypedStorage:
        name = self._check(key, dtype, count)
        if key not in self._read:
            shared = self._part(name)
            self._read[key] = _storage_of(self._record(name) if shared is None else shared)
            if self._swapped:
                self._read[key].byteswap(dtype)
        return self._read[key]

    def _check(self, key: str, dtype: torch.dtype, count: int) -> str:
        """Returns the name of the record of a storage, which must have so many numbers."""
        name = f"{self._folder}data/{key}"
        if not 0 <= self._sizes[name] - count * dtype.itemsize < dtype.itemsize:
            raise CheckpointError(f"its record {key} has {self._sizes[name]} bytes, and not {count} numbers of {dtype}")
        return name


def _storage_of(content: bytearray | memoryview) -> torch.UntypedStorage:
    return tensor_of(content).untyped_storage() if content else torch.UntypedStorage(0)


def _read_legacy(data: bytes | mmap.mmap, foreign: set[str] | None) -> Any:
    """Reads the format before torch 1.6: five pickles, the last one the keys of the storages, which follow."""
    buffers: dict[str, bytearray] = {}
    storages: dict[str, torch.UntypedStorage] = {}
    counts: dict[str, int] = {}

    def storage(key: str, dtype: torch.dtype, count: int) -> torch.UntypedStorage:
        size = count * dtype.itemsize
        if key not in buffers:
            if sum(map(len, buffers.values())) + size > len(data):
                raise CheckpointError("its tensors claim more bytes than the file has")
            buffers[key], counts[key] = bytearray(size), count
            storages[key] = _storage_of(buffers[key])
        if len(buffers[key]) != size:
            raise CheckpointError(f"its storage {key} has two sizes")
        return storages[key]

    pickles = Unpickler(data, storage, most_bytes(len(data)), foreign)
    if pickles.load() != _LEGACY_MAGIC or pickles.load() != _LEGACY_PROTOCOL:
        raise CheckpointError("it is not a file that torch.save wrote")
    system = pickles.load()
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise CheckpointError("it was written on a machine with another order of bytes")
    content, keys, at = pickles.load(), pickles.load(), pickles.at
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(buffers):
        raise CheckpointError("its storages are not those that its tensors name")
    for key in keys:
        buffer, count, at = buffers[key], int.from_bytes(data[at : at + 8], "little"), at + 8
        if at + len(buffer) > len(data) or count != counts[key]:
            raise CheckpointError("it is cut off")
        with memoryview(data) as view:
            buffer[:] = view[at : at + len(buffer)]
        at += len(buffer)
    return content
