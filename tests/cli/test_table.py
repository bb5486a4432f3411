from __future__ import annotations

from virtsnap.cli.table import info, pretty_bytes, printable, table


def test_columns_are_padded_to_the_widest_cell_but_for_the_last() -> None:
    assert table(["Id", "Name", "State"], [["1", "demo", "running"], ["-", "x", "shut off"]]) == (
        " Id   Name   State\n-----------------------\n 1    demo   running\n -    x      shut off\n"
    )


def test_an_empty_table_has_its_header() -> None:
    assert table(["Id", "Name", "State"], []) == " Id   Name   State\n--------------------\n"


def test_quiet_leaves_the_rows_with_their_own_widths() -> None:
    assert table(["Id", "Name"], [["1", "demo"]], quiet=True) == " 1   demo\n"
    assert table(["Id", "Name"], [], quiet=True) == ""


def test_wide_characters_count_two_and_control_characters_are_shown() -> None:
    assert table(["Name", "X"], [["漢字漢", "a"], ["a\tb", "b"]]) == (
        " Name     X\n-------------\n 漢字漢   a\n a\\x09b   b\n"
    )
    assert printable("a\x7f\u0085é") == "a\\x7f\\xc2\\x85é"


def test_info_and_sizes() -> None:
    assert info("Id:", 4) == "Id:             4\n"
    sizes = [0, 512, 1024, 1536, 1 << 20, 1099506450432, 1 << 40, 1 << 62]
    assert [pretty_bytes(size) for size in sizes] == [
        "0.000 B",
        "512.000 B",
        "1.000 KiB",
        "1.500 KiB",
        "1.000 MiB",
        "1023.995 GiB",
        "1.000 TiB",
        "4.000 EiB",
    ]
