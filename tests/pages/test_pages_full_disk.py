"""Pages on a full disk: one sentence."""

import os
from unittest import mock

from tests.support.pages import as_read, open_page
from tests.support.rights import without_space


def test_a_change_that_finds_no_space_is_a_sentence(own_home):
    def ask():
        with mock.patch.dict(os.environ, {"GRAFT_HOME": str(own_home)}):
            app = open_page("runs")
            app.number_input(key="setting_runs_per_device@1").set_value(2).run()
            assert not app.exception, app.exception
            return [as_read(error.value) for error in app.error]

    (error,) = without_space(ask)
    assert str(own_home / "settings.json") in error and "free some space" in error
