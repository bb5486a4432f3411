"""For all tests: modules that hold assertions and are no tests themselves."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.service.local_domain", "tests.service.sweep", "tests.service.whole")
