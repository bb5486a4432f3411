"""Help as text: of the program, of a group, of one command."""

from __future__ import annotations

from virtsnap.cli.registry import GROUPS, Group, entry
from virtsnap.cli.spec import Command, Kind, Option, Place

USAGE = """
virtsnap [options]... [<command_string>]
virtsnap [options]... <command> [args...]

  options:
    -c | --connect=URI      connection URI, qemu:///embed?root=DIR
    -e | --escape <char>    set escape sequence for console
    -h | --help             this help
    -q | --quiet            quiet mode
    -r | --readonly         connect readonly
    -t | --timing           print timing information
         --json             print JSON, of commands that list or tell
    -v                      short version
    -V                      long version
         --version[=TYPE]   version, TYPE is short or long (default short)
  commands:

"""


def program() -> str:
    """What --help prints: usage and all commands."""
    groups = "".join(
        f" {group.title} (help keyword '{group.keyword}')\n{_entries(group)}\n" for group in GROUPS
    )
    return (
        USAGE
        + groups
        + "\n  (specify help <group> for details about the commands in the group)\n\n"
        + ("  (specify help <command> for details about the command)\n\n")
    )


def all_groups() -> str:
    """What the command `help` prints."""
    return "Grouped commands:\n\n" + "".join(of_group(group) + "\n" for group in GROUPS)


def of_group(group: Group) -> str:
    """The commands of one group."""
    return f" {group.title} (help keyword '{group.keyword}'):\n{_entries(group)}"


def _entries(group: Group) -> str:
    return "".join(f"    {one.name:<30} {one.help}\n" for one in group.entries)


def of_command(name: str, command: Command) -> str:
    """One command: synopsis, description, options, examples."""
    found = entry(name)
    shown = [option for option in command.options if option.alias_of is None]
    text = f"  NAME\n    {name} - {found.help if found else ''}\n"
    text += "\n  SYNOPSIS\n    " + " ".join([name, *map(_synopsis, shown)]) + "\n"
    if command.description:
        lines = command.description.splitlines()
        text += "\n  DESCRIPTION\n" + "".join(f"    {line}".rstrip() + "\n" for line in lines)
    if shown:
        text += "\n  OPTIONS\n" + "".join(f"    {_label(one):<15}  {one.help}\n" for one in shown)
    if command.examples:
        text += "\n  EXAMPLES\n" + "".join(f"    virtsnap {example}\n" for example in command.examples)
    return text


def _synopsis(option: Option) -> str:
    if option.kind is Kind.BOOL:
        return f"[--{option.name}]"
    if option.place is Place.POSITIONAL and option.kind is not Kind.MANY:
        return f"<{option.name}>" if option.required else f"[<{option.name}>]"
    if option.place is Place.POSITIONAL:
        return f"<{option.name}>..." if option.required else f"[<{option.name}>]..."
    dots = "..." if option.kind is Kind.MANY else ""
    return f"[--{option.name} <{_type(option)}>]{dots}"


def _label(option: Option) -> str:
    if option.kind is Kind.BOOL:
        return f"--{option.name}"
    name = f"[--{option.name}]" if option.place is Place.POSITIONAL else f"--{option.name}"
    return f"{name} <{_type(option)}>" + ("..." if option.kind is Kind.MANY else "")


def _type(option: Option) -> str:
    return "number" if option.kind is Kind.NUMBER else "string"
