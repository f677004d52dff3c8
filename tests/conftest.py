"""One seed of settings for hypothesis, and no credentials from the machine the tests run on."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "suite", deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("suite")

# boto3 must not look for credentials or a region outside: a test that needs them sets them.
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
