"""clone and discard: names, many at once, JSON, the plan."""

from __future__ import annotations

import json

from tests.cli.conftest import Cli


def test_clones_are_made_and_discarded(cli: Cli) -> None:
    cli.ok("snapshot-create-as", "demo", "ready")
    assert cli.ok("clone", "demo", "ready", "one") == (
        "Domain 'one' cloned from snapshot 'ready' of domain 'demo'\n\n"
    )
    said = cli.ok("clone", "demo", "ready", "w", "--count", "2", "--start")
    assert said.startswith("Domain 'w-1' cloned")
    assert "Domain 'w-2' cloned" in said
    assert [one["name"] for one in json.loads(cli.ok("clone", "demo", "ready", "x", "--json"))] == ["x"]
    names = cli.ok("list", "--all", "--name").split()
    assert set(names) >= {"demo", "one", "w-1", "w-2", "x"}
    assert cli.ok("discard", "one") == "Domain 'one' has been discarded\n\n"
    assert "one" not in cli.ok("list", "--all", "--name").split()


def test_what_is_refused(cli: Cli) -> None:
    cli.ok("snapshot-create-as", "demo", "ready")
    assert "no domain snapshot with matching name 'other'" in cli.fails("clone", "demo", "other", "x")
    assert cli.fails("clone", "demo", "ready", "x", "--count", "0") == "error: --count must be at least 1\n"
    assert "is no clone" in cli.fails("discard", "demo")
    assert "read only access" in cli.fails("-r", "clone", "demo", "ready", "x")


def test_the_plan(cli: Cli) -> None:
    cli.ok("snapshot-create-as", "demo", "ready")
    assert cli.ok("clone", "demo", "ready", "x", "--dry-run").startswith("Plan: clone domain 'x' (nothing")
