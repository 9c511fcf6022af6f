"""The OpenAPI document tells the truth: schemathesis invents requests from it, valid and invalid
ones, and compares the answers with what it says."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

from engine.serve import keys
from engine.serve.limits import Bounds
from tests.support.serve import Fake, served


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """(port, headers with a key) of an endpoint that needs one."""
    home = tmp_path_factory.mktemp("home")
    key = keys.create(home, "test", list(keys.SCOPES))
    bounds = Bounds(files=4, rate=0)
    with served(Fake(home), bounds, keys=keys.Keys(home)) as (port, _):
        yield port, {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def document(place):
    """The document, as schemathesis loads it."""
    port, headers = place
    config = schemathesis.config.SchemathesisConfig()
    # Too many files are 413 here, which it does not know as a refusal.
    config.projects.default.checks.negative_data_rejection.expected_statuses.append("413")
    address = f"http://127.0.0.1:{port}/openapi.json"
    return schemathesis.openapi.from_url(address, headers=headers, config=config)


SETTINGS = settings(
    max_examples=25,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize(
    "method, path, mode",
    [
        ("POST", "/classify", GenerationMode.POSITIVE),
        ("POST", "/classify", GenerationMode.NEGATIVE),
        ("GET", "/about", GenerationMode.POSITIVE),
        ("GET", "/health", GenerationMode.POSITIVE),
    ],
)
def test_answers_are_as_the_document_says(method, path, mode, document, place):
    @SETTINGS
    @given(document[path][method].as_strategy(generation_mode=mode))
    def check(case):
        case.call_and_validate(headers=place[1])

    check()
