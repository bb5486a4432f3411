"""The options before the command, several commands, exit statuses."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cli.conftest import Cli
from virtsnap import __version__


def test_version_in_all_spellings(cli: Cli) -> None:
    for words in (["-v"], ["--version"], ["--version=short"], ["-q", "--version", "list"]):
        assert cli.ok(*words) == f"{__version__}\n"
    assert cli.ok("-V").startswith(f"virtsnap {__version__}")
    assert cli.ok("--version=long") == cli.ok("-V")
    assert cli.opened == []


def test_the_connection_is_passed_on(cli: Cli) -> None:
    for words in (["-c", "u"], ["-cu"], ["--connect", "u"], ["--connect=u"], ["--conn", "u"]):
        cli.ok(*words, "uri")
    cli.ok("uri")
    assert [uri for uri, _ in cli.opened] == ["u"] * 5 + [None]


def test_readonly_is_passed_on_and_refusals_are_libvirts(cli: Cli) -> None:
    assert cli.fails("-r", "destroy", "demo") == (
        "error: Failed to destroy domain 'demo'\n"
        "error: operation forbidden: read only access prevents virDomainDestroy\n"
    )
    assert cli.opened == [(None, True)]


def test_letters_may_be_joined(cli: Cli) -> None:
    assert cli.ok("-qc", "u", "domid", "demo") == "1\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-c"], "option '-c'/'--connect' requires an argument"),
        (["--connect"], "option '-c'/'--connect' requires an argument"),
        (["--bogus"], "unsupported option '--bogus'. See --help."),
        (["-x", "list"], "unsupported option '-x'. See --help."),
        (["--re=x", "list"], "unsupported option '--re=x'. See --help."),
        (["-d", "1", "list"], "option '--debug' is not supported"),
        (["-l", "file", "list"], "option '--log' is not supported"),
        (["-e", "xyz", "list"], "Invalid string 'xyz' for escape sequence"),
    ],
)
def test_wrong_options_before_the_command(cli: Cli, words: list[str], says: str) -> None:
    result = cli(*words)
    assert (result.status, result.out, result.err) == (1, "", f"error: {says}\n")


def test_an_empty_line_follows_every_command_but_with_quiet(cli: Cli) -> None:
    assert cli.ok("domid demo; domid other") == "1\n\n-\n\n"
    assert cli.ok("-q", "domid demo; domid other") == "1\n-\n"


def test_the_last_command_decides_the_status(cli: Cli) -> None:
    result = cli("domid nobody; domid demo")
    assert (result.status, result.out, result.err) == (0, "\n1\n\n", "error: failed to get domain 'nobody'\n")
    assert cli("domid demo; domid nobody").status == 1


def test_a_wrong_command_keeps_the_others_from_running(cli: Cli) -> None:
    result = cli("destroy demo; bogus")
    assert (result.status, result.out, result.err) == (1, "", "error: unknown command: 'bogus'\n")
    assert cli.ok("domid", "demo") == "1\n\n"


def test_nothing_to_do_is_done(cli: Cli) -> None:
    assert cli.ok(" ; ") == ""
    assert cli.ok("quit; domid demo") == ""
    assert cli.ok("domid demo; exit; domid demo") == "1\n\n"


def test_words_of_their_own_are_one_command(cli: Cli) -> None:
    assert cli.fails("list", ";", "list") == "error: unexpected data ';'\n"


def test_timing(cli: Cli) -> None:
    assert cli.ok("-t", "domid", "demo").startswith("1\n\n(Time: ")


def test_json_is_refused_by_commands_that_have_none(cli: Cli) -> None:
    assert (
        cli.fails("--json", "destroy", "demo") == "error: command 'destroy' doesn't support option --json\n"
    )
    assert (
        cli.fails("destroy", "demo", "--json") == "error: command 'destroy' doesn't support option --json\n"
    )


def test_the_service_is_closed(cli: Cli) -> None:
    cli.ok("domid", "demo")
    assert cli.service.closed


def _modules_after(words: str) -> set[str]:
    code = (
        "import sys\nfrom virtsnap.cli.main import main\n"
        f"status = main({words})\nprint(*sys.modules, file=sys.stderr)\nsys.exit(status)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(result.stderr.split())


@pytest.mark.parametrize("words", ["['--version']", "['--help']", "['help']", "['list', '--help']"])
def test_version_and_help_import_nothing_heavy(words: str) -> None:
    heavy = {"asyncio", "lxml", "sqlite3", "subprocess", "virtsnap.service.local", "virtsnap.engine"}
    assert _modules_after(words) & heavy == set()


def test_a_reader_that_leaves_is_no_traceback() -> None:
    code = "from virtsnap.cli.main import main\nimport sys\nsys.exit(main(['help']))"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
        process.wait()
    assert said == b""


def test_words_that_are_not_utf8_come_out_as_they_came_in() -> None:
    code = "from virtsnap.cli.main import main\nimport sys\nsys.exit(main())"
    command = [sys.executable, "-c", code, "echo", b"a\xffb"]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"a\xffb\n"
