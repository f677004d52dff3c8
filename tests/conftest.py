"""One seed of settings for hypothesis, and no credentials from the machine the tests run on."""

import functools
import os

import pytest
from botocore.loaders import JSONFileLoader
from hypothesis import HealthCheck, settings

settings.register_profile(
    "suite", deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("suite")

# Before numpy is imported: with a worker on each core, BLAS threads that spin cost five times the work.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# boto3 must not look for credentials or a region outside: a test that needs them sets them.
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull


@pytest.fixture(scope="session", autouse=True)
def _service_models_are_read_once():
    """Each boto3 session parses botocore's service models anew: most of a short test's time."""
    with pytest.MonkeyPatch.context() as patch:
        original = JSONFileLoader.load_file
        load_file = functools.cache(lambda path: original(JSONFileLoader(), path))
        patch.setattr(JSONFileLoader, "load_file", lambda _, path: load_file(path))
        yield


# For environments of their own: tests/compat/run.py.
collect_ignore = ["compat"]
