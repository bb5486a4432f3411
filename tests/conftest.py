"""For all tests: modules that hold assertions and are no tests themselves; Ctrl-C works wherever they run."""

from __future__ import annotations

import signal

import pytest

pytest.register_assert_rewrite("tests.service.local_domain", "tests.service.sweep", "tests.service.whole")

# Whoever starts the tests in the background of a shell makes them, and all that they start, deaf to it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
