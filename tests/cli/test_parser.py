from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtsnap.cli.args import Args
from virtsnap.cli.errors import CliError, UsageError
from virtsnap.cli.parser import parse_string, parse_words, split
from virtsnap.cli.session import Session
from virtsnap.cli.spec import Command, alias, flag, many, number, positional, string


async def _run(session: Session, args: Args) -> None:
    raise AssertionError("never run here")


DO = Command(
    _run,
    (
        positional("domain", "the domain", required=True),
        string("name", "a name", tolerated=True),
        flag("all", "everything"),
        number("screen", "which"),
        many("disk", "disks"),
        alias("everything", "all"),
    ),
)
BARE = Command(_run, (flag("all", "everything"),))


def _find(name: str) -> Command | None:
    return {"do": DO, "bare": BARE}.get(name)


def _parse(*words: str) -> Args:
    return parse_words(["do", *words], _find).args


def test_options_stand_anywhere_and_in_both_forms() -> None:
    for words in (
        ("vm", "--name", "x", "--all"),
        ("--all", "--name=x", "vm"),
        ("--name", "x", "--all", "--domain", "vm"),
        ("vm", "x", "--all"),
        ("--domain=vm", "x", "--all"),
    ):
        args = _parse(*words)
        assert (args.string("domain"), args.string("name"), args.has("all")) == ("vm", "x", True)


def test_surplus_words_go_to_the_repeated_option() -> None:
    args = _parse("vm", "--disk", "a", "n", "b", "--disk=c")
    assert (args.string("name"), args.many("disk")) == ("n", ["a", "b", "c"])


def test_two_dashes_end_options() -> None:
    assert _parse("--", "--all").string("domain") == "--all"
    assert _parse("vm", "--").string("domain") == "vm"
    assert _parse("vm", "--name", "--").string("name") == "--"


def test_a_value_may_look_like_an_option() -> None:
    assert _parse("vm", "--name", "--all").string("name") == "--all"


def test_an_alias_is_the_option_itself() -> None:
    assert _parse("vm", "--everything").has("all")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nonsense"], "unknown command: 'nonsense'"),
        (["do"], "command 'do' requires <domain> option"),
        (["do", "vm", "--foo"], "command 'do' doesn't support option --foo"),
        (["do", "vm", "--al"], "command 'do' doesn't support option --al"),
        (["do", "vm", "--=x"], "command 'do' doesn't support option --"),
        (["do", "vm", "---all"], "command 'do' doesn't support option ---all"),
        (["do", "vm", "--all=yes"], "invalid '=' after option --all"),
        (["do", "vm", "--all", "--everything"], "option --all already seen"),
        (["do", "vm", "--domain", "x"], "option --domain already seen"),
        (["do", "vm", "--name"], "expected syntax: --name <string>"),
        (["do", "vm", "--screen"], "expected syntax: --screen <number>"),
        (["bare", "x"], "unexpected data 'x'"),
        (["bare", "-x"], "unexpected data '-x'"),
    ],
)
def test_complaints_are_virshs(words: list[str], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_words(words, _find)
    assert caught.value.lines == (says,)


def test_help_needs_no_required_option_but_no_wrong_one() -> None:
    assert parse_words(["do", "--help"], _find).help
    assert parse_words(["do", "--help=1"], _find).help
    with pytest.raises(UsageError, match="doesn't support option --foo"):
        parse_words(["do", "--help", "--foo"], _find)


def test_values_are_checked_when_used() -> None:
    with pytest.raises(CliError, match="Failed to get option 'name': Option argument is empty"):
        _parse("vm", "--name=").string("name")
    assert _parse("vm", "--screen", "2").number("screen") == 2
    for wrong in ("-1", "x", "1x", str(1 << 32), "\u0661"):
        with pytest.raises(CliError, match=f"Numeric value '{wrong}' for <screen> option is malformed"):
            _parse("vm", "--screen", wrong).number("screen")


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        ("a b", [["a", "b"]]),
        ("a;b ; c", [["a"], ["b"], ["c"]]),
        ("a\nb", [["a"], ["b"]]),
        ("; ;a;", [["a"]]),
        ("", []),
        ("a # b ; c\nd", [["a"], ["d"]]),
        ("a#b", [["a#b"]]),
        ("a 'b c' \"d e\"", [["a", "b c", "d e"]]),
        ("a b'c d'e", [["a", "bc de"]]),
        ("a ''", [["a", ""]]),
        ("a b\\ c", [["a", "b c"]]),
        ("a b\\;c", [["a", "b;c"]]),
        ("a 'b\\c'", [["a", "b\\c"]]),
        ('a "b\\"c"', [["a", 'b"c']]),
        ("a\\\nb", [["ab"]]),
    ],
)
def test_a_command_string_is_cut_as_virsh_cuts_it(text: str, commands: list[list[str]]) -> None:
    assert split(text) == commands


@pytest.mark.parametrize(
    ("text", "says"), [("a \\", "dangling \\"), ('a "b', 'missing "'), ("a 'b", "missing '")]
)
def test_an_unfinished_string_is_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        split(text)
    assert caught.value.lines == (says,)


def test_nothing_of_a_string_is_parsed_when_one_command_is_wrong() -> None:
    with pytest.raises(UsageError, match="unknown command: 'nonsense'"):
        parse_string("bare; nonsense; bare", _find)


@given(st.lists(st.text(min_size=0), min_size=1))
def test_quoting_every_word_gives_the_words_back(words: list[str]) -> None:
    text = " ".join("'" + word.replace("'", "'\\''") + "'" for word in words)
    assert split(text) == [words]


@given(
    st.lists(
        st.sampled_from(
            ["vm", "--all", "--name", "--name=", "--disk", "--", "--help", "x", "-x", "--screen=1"]
        )
    )
)
def test_any_words_are_parsed_or_refused(words: list[str]) -> None:
    try:
        parsed = parse_words(["do", *words], _find)
    except UsageError:
        return
    assert parsed.help or parsed.args.has("domain")


@given(st.text(alphabet="ab'\"\\;# \n"))
def test_any_string_is_cut_or_refused(text: str) -> None:
    try:
        commands = split(text)
    except UsageError:
        return
    assert all(commands)
