"""The conformance suite is no test module by its name, but its assertions shall explain themselves, too."""

import pytest

pytest.register_assert_rewrite("tests.sessions.store_conformance")
