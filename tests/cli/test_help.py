from __future__ import annotations

import pytest

from tests.cli.conftest import Cli
from virtsnap.cli.parser import split
from virtsnap.cli.registry import GROUPS, entry, find
from virtsnap.cli.spec import Kind, Place

NAMES = [one.name for group in GROUPS for one in group.entries]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help_and_its_examples_parse(cli: Cli, name: str) -> None:
    text = cli.ok("help", name)
    assert text == cli.ok(name, "--help")
    assert text.startswith(f"  NAME\n    {name} - ")
    command = find(name)
    assert command is not None
    for example in command.examples:
        from virtsnap.cli.parser import parse_words

        (words,) = split(example)
        assert not parse_words(words, find).help


@pytest.mark.parametrize("name", NAMES)
def test_every_table_is_sound(name: str) -> None:
    command = find(name)
    assert command is not None
    names = [option.name for option in command.options]
    assert len(names) == len(set(names))
    for option in command.options:
        assert option.alias_of is None or option.alias_of.partition("=")[0] in names
        assert not option.required or option.place is Place.POSITIONAL
        assert option.kind is not Kind.BOOL or option.place is Place.NAMED


def test_a_command_with_every_kind_of_option(cli: Cli) -> None:
    assert cli.ok("help", "snapshot-create-as").startswith(
        "  NAME\n"
        "    snapshot-create-as - Create a snapshot from a set of args\n"
        "\n"
        "  SYNOPSIS\n"
        "    snapshot-create-as <domain> [--name <string>] [--description <string>] [--print-xml] "
        "[--no-metadata] [--halt] [--disk-only] [--reuse-external] [--quiesce] [--atomic] [--live] "
        "[--validate] [--memspec <string>] [--diskspec <string>]... [--dry-run] [--json]\n"
        "\n"
        "  DESCRIPTION\n"
        "    Create a snapshot (disk and RAM) from arguments\n"
        "\n"
        "  OPTIONS\n"
        "    [--domain] <string>  domain name, id or uuid\n"
        "    --name <string>  name of snapshot\n"
    )


def test_groups(cli: Cli) -> None:
    text = cli.ok("help", "snapshot")
    assert text.startswith(
        " Snapshot (help keyword 'snapshot'):\n"
        "    snapshot-create                Create a snapshot from XML\n"
    )
    assert cli.ok("help", "Snapshot") == text
    everything = cli.ok("help")
    assert everything.startswith("Grouped commands:\n\n Domain Management (help keyword 'domain'):\n")
    assert all(f"    {name} " in everything for name in NAMES)
    assert all(f"    {name} " in cli.ok("--help") for name in NAMES)


def test_an_unknown_subject(cli: Cli) -> None:
    assert cli.fails("help", "bogus") == "error: command or command group 'bogus' doesn't exist\n"
    assert entry("bogus") is None
