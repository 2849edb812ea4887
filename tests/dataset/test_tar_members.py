import io
import os
import tarfile

import pytest

from ray_classy.dataset.tar_members import tar_members
from ray_classy.errors import DataError

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def archive(*names, form=tarfile.PAX_FORMAT, **fields):
    """A tar file whose members hold their names."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(name.encode())
            for field, value in fields.items():
                setattr(info, field, value)
            tar.addfile(info, io.BytesIO(name.encode()))
    return buffer.getvalue()


def members(content, remarks=None):
    return list(tar_members("a.tar", io.BytesIO(content), [] if remarks is None else remarks))


def names(content):
    listed = members(content)
    for member in listed:
        assert content[member.offset : member.offset + member.size] == member.name.encode()
    return [member.name for member in listed]


def header(name=b"x", size=b"00000000001\0", kind=b"0", content=b""):
    """A member made by hand, with a valid checksum."""
    block = bytearray(512)
    block[:100], block[124:136], block[156:157] = name.ljust(100, b"\0"), size, kind
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + content.ljust(-(-len(content) // 512) * 512, b"\0")


END = bytes(1024)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", ["1.png", "a" * 90 + "/" + "b" * 90, "./a b/1.png", "/abs/1.png", "../x/1.png"])
def test_names_of_every_format(form, name):
    assert names(archive(name, "2.png", form=form)) == [name, "2.png"]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", ["ä" * 80, "x" * 5000])
def test_long_names(form, name):
    assert names(archive(name, "2.png", form=form)) == [name, "2.png"]


def test_joined_archives_are_read_to_the_end():
    parts = [archive("1.png", "2.png"), archive("3.png"), archive("4.png")]
    assert names(b"".join(parts)) == ["1.png", "2.png", "3.png", "4.png"]


def test_any_number_of_zeros_is_an_end():
    content = archive("1.png").rstrip(b"\0").ljust(1024, b"\0")
    assert names(content + bytes(512)) == ["1.png"]
    assert names(content + bytes(512 * 6000) + archive("2.png") + bytes(100)) == ["1.png", "2.png"]


@pytest.mark.parametrize("rest", [b"garbage", b"garbage" * 200, b"\x1f\x8b" * 900])
def test_what_follows_the_end_is_remarked(rest):
    content, remarks = archive("1.png"), []
    assert len(members(content + rest, remarks)) == 1
    assert remarks == [f"a.tar: {len(rest):,} bytes after the end of the archive are passed over"]


@pytest.mark.parametrize("between", [100, 512, (1 << 20) - 300, 1 << 20])
def test_an_archive_after_damage_is_an_error(between):
    content = archive("1.png")
    with pytest.raises(DataError, match=rf"a\.tar is damaged at byte {len(content)}: b'.*after the end"):
        members(content + b"x" * between + archive("2.png"))


def test_zeros_and_something_else_are_no_archive():
    with pytest.raises(DataError, match=r"a\.tar is damaged at byte 1024"):
        members(END + b"x" * 2000)


@pytest.mark.parametrize(("cut", "count"), [(1024, 1), (2048, 2)])
def test_an_archive_without_an_end_mark_is_remarked(cut, count):
    remarks = []
    assert len(members(archive("1.png", "2.png")[:cut], remarks)) == count
    assert remarks == [
        f"a.tar has no end mark: if it was cut, at byte {cut:,}, the samples after it are missing",
    ]


def test_a_cut_after_an_extended_header_is_an_error():
    with pytest.raises(DataError, match="cut at byte 1,024, within a member"):
        members(archive("x" * 300, form=tarfile.GNU_FORMAT)[:1024])


@pytest.mark.parametrize("cut", [1, 100, 512, 513, 1023, 1025, 1536, 2047])
def test_an_archive_that_was_cut_is_an_error(cut):
    content = archive("1.png", "2.png")
    with pytest.raises(DataError, match=r"a\.tar (cannot be read as a tar file|is damaged)"):
        members(content[:cut])


@pytest.mark.parametrize(
    "size",
    [b"\xff" * 12, b"\xff" * 8 + b"\xff\xff\xfc\0", b"-0000001000\0", b"99999999999\0", b"notanumber\0\0"],
)
@pytest.mark.parametrize("kind", [b"0", b"x", b"L"])
def test_a_size_that_is_not_one_is_an_error(size, kind):
    with pytest.raises(DataError, match=r"a\.tar is damaged at byte 0: 'x' has no valid size"):
        members(header(size=size, kind=kind) + END)


def test_a_size_beyond_the_file_is_an_error():
    size = b"\x80" + (4 << 40).to_bytes(11, "big")
    with pytest.raises(DataError, match=r"'x' of 4,398,046,511,104 bytes ends at byte"):
        members(header(size=size) + END)


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K", b"X"])
def test_an_extended_header_of_terabytes_is_not_read(kind):
    size = b"\x80" + (4 << 40).to_bytes(11, "big")
    with pytest.raises(DataError, match=r"an extended header of 4,398,046,511,104 bytes"):
        members(header(size=size, kind=kind) + END)


@pytest.mark.parametrize(
    "record",
    [b"18 size=-1000000\n", b"0 path=a\n", b"99 path=a\n", b"5 a\n", b"17 size=999999999999999999999\n", b"x"],
)
def test_damaged_pax_records_are_an_error(record):
    size = b"%011o\0" % len(record)
    with pytest.raises(DataError, match=r"a\.tar is damaged at byte 512: an extended header"):
        members(header(size=size, kind=b"x", content=record) + header(content=b"a") + END)


def test_the_size_of_a_pax_header_counts():
    content = header(size=b"%011o\0" % 11, kind=b"x", content=b"11 size=2\n\0"[:11])
    with pytest.raises(DataError, match="extended header"):
        members(content + header(content=b"ab") + END)
    content = header(size=b"%011o\0" % 10, kind=b"x", content=b"10 size=2\n")
    assert members(content + header(content=b"ab") + END) == [("x", 1536, 2)]


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (b"1", "a link"),
        (b"2", "a symbolic link"),
        (b"3", "a device"),
        (b"6", "a pipe"),
        (b"S", "sparse"),
        (b"Z", "kind"),
    ],
)
def test_what_is_not_a_plain_file_is_an_error(kind, what):
    with pytest.raises(DataError, match=rf"a\.tar: 'x' is not a plain file but .*{what}"):
        members(header(kind=kind, content=b"a") + END)


def test_sparse_files_in_pax_are_an_error():
    record = b"22 GNU.sparse.major=1\n"
    with pytest.raises(DataError, match="a sparse file"):
        members(header(size=b"%011o\0" % 22, kind=b"x", content=record) + header(content=b"a") + END)


def test_folders_and_labels_are_passed_over():
    content = header(b"d", b"00000000000\0", b"5") + header(b"e/", b"00000000000\0", b"\0")
    assert members(content + header(b"label", b"00000000000\0", b"V") + header(content=b"a") + END) == [("x", 2048, 1)]


def test_a_name_that_is_not_utf8_is_escaped():
    assert members(header(b"\xe9.png", content=b"a") + END)[0].name == "\\xe9.png"


def test_a_sum_of_signed_bytes_is_accepted():
    block = bytearray(header(b"\xe9.png", content=b"a"))
    plain = sum(block[:148]) + 8 * 32 + sum(block[156:512])
    block[148:156] = b"%06o\0 " % (plain - 256)
    assert len(members(bytes(block) + END)) == 1


@pytest.mark.parametrize("form", FORMATS)
def test_the_members_are_those_of_tarfile(tmp_path, form):
    for number in range(20):
        (tmp_path / f"{number}.bin").write_bytes(os.urandom(number * 97))
    with tarfile.open(tmp_path / "a.tar", "w", format=form) as tar:
        tar.add(tmp_path, "set", filter=lambda info: info if not info.name.endswith(".tar") else None)
    with tarfile.open(tmp_path / "a.tar") as tar:
        wanted = [(one.name, one.offset_data, one.size) for one in tar if one.isfile()]
    with open(tmp_path / "a.tar", "rb") as file:
        assert list(tar_members("a.tar", file, [])) == wanted
