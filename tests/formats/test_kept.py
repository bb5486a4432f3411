"""What is kept stays within its bounds."""

from __future__ import annotations

from virtsnap.formats.kept import Kept, digest


def test_what_was_used_last_is_kept() -> None:
    made: list[str] = []

    def get(kept: Kept[str, str], key: str) -> str:
        return kept.get(key, lambda: made.append(key) or key * 2)  # type: ignore[func-returns-value]

    kept: Kept[str, str] = Kept(2)
    assert [get(kept, key) for key in "abacab"] == ["aa", "bb", "aa", "cc", "aa", "bb"]
    assert made == ["a", "b", "c", "b"]
    assert len(kept) == 2


def test_bytes_are_counted() -> None:
    kept: Kept[int, str] = Kept(100, len)
    for number in range(50):
        assert kept.get(number, lambda: "x" * 30) == "x" * 30
    assert len(kept) == 3
    assert kept.get(-1, lambda: "x" * 101) == "x" * 101  # too large to be kept with anything else
    assert len(kept) == 0


def test_a_digest_stands_for_its_text() -> None:
    assert digest("a") == digest("a") != digest("b")
    assert len(digest("\udcff" * 1000)) == 32
