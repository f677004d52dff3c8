"""Errors: what they carry, how each front end writes them, and the page that lists them."""

import pickle
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from bedrock_marengo import errors
from bedrock_marengo.aws.retries import CODES, THROTTLED, TRANSIENT, advice_for
from bedrock_marengo.embedding.run_options import Progress
from bedrock_marengo.errors import (
    BudgetError,
    ConfigurationError,
    InputError,
    JobError,
    MarengoError,
    MarengoWarning,
    ServiceError,
    visible,
)
from marengo_cli.spelling import rendered

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"


def test_a_refused_setting_is_named_with_its_value():
    error = InputError("expected 1 to 5 seconds (whole number).", setting="min_duration_sec", value=0)
    assert str(error) == "min_duration_sec=0: expected 1 to 5 seconds (whole number)."
    assert (error.setting, error.value) == ("min_duration_sec", 0)


def test_each_front_end_writes_settings_its_own_way():
    error = ConfigurationError("give {fused} too.", setting="max_cost_usd", value=float("nan"), remedy={"fused": True})
    assert str(error) == "max_cost_usd=nan: give fused=True too."
    assert rendered(error) == "--max-cost-usd nan: give --fused also too."
    assert error.render(lambda name, value: name.upper()) == "MAX_COST_USD: give FUSED too."


@pytest.mark.parametrize(
    "error",
    [
        InputError("no.", setting="k", value="many", remedy={"model": "3.0"}),
        ConfigurationError("no {region_name}.", setting="region_name", remedy={"region_name": ...}),
        BudgetError("{max_cost_usd}", spent_usd=1.0, exhausted=True, remedy={"max_cost_usd": 1}),
        JobError("{force}", source="s3://b/k", arn=None, remedy={"force": True}),
        ServiceError("{model}", code="SlowDown", operation="PutObject", remedy={"model": "3.0"}),
    ],
)
def test_a_pickle_keeps_the_setting(error):
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.setting, copy.value, copy.remedy) == (str(error), error.setting, error.value, error.remedy)


@pytest.mark.parametrize("name", ["aws_access_key_id", "aws_secret_access_key", "aws_session_token", "session"])
def test_no_credential_is_kept(name):
    error = ConfigurationError("expected a string.", setting=name, value=20261125)
    assert "20261125" not in f"{error} {error!r} {error.value} {pickle.dumps(error)!r}"


def test_no_password_of_a_url_is_kept():
    error = ConfigurationError("expected a URL.", setting="endpoint_url", value="https://me:secret@host")
    assert (error.value, str(error)) == ("host", "endpoint_url='host': expected a URL.")


def test_what_is_long_or_not_plain_is_described():
    assert str(InputError("no.", setting="text", value="x" * 5000)) == "text=a string of 5,000 characters: no."
    assert InputError("no.", setting="text", value="x" * 100).value == "x" * 77 + "..."
    assert str(InputError("no.", setting="store", value=object())) == "store=object: no."
    pickle.dumps(InputError("no.", setting="on_progress", value=lambda: None))


def test_a_value_is_never_read_as_a_setting():
    error = InputError("no {model}.", setting="text", value="{setting}", remedy={"model": "3.0"})
    assert str(error) == "text='{setting}': no model='3.0'."


def refusal(code, said):
    return ClientError({"Error": {"Code": code, "Message": said}}, "InvokeModel")


def test_a_service_error_says_what_to_do():
    error = ServiceError.of(refusal("ValidationException", "Retry with on-demand throughput"), "InvokeModel", "a text")
    assert str(error).startswith(
        "InvokeModel for a text: ValidationException: Retry with on-demand throughput | In this"
    )
    assert "model='3.0' to use the default profile, or set invoke_model_id." in str(error)
    assert "--model 3.0 to use the default profile, or set --invoke-model-id" in rendered(error)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("視頻 Köln\u3000\u00a0.mp4", "視頻 Köln\u3000\u00a0.mp4"),
        ("می\u200cخواهم 👩\u200d🎤.mp4", "می\u200cخواهم 👩\u200d🎤.mp4"),
        ("a\x1b[2J\r\nb\x07\x7f.mp4", r"a\x1b[2J\r\nb\x07\x7f.mp4"),
        ("a\x9b31m\u202egpm.\u2066\u200f\ufeff", r"a\x9b31m\u202egpm.\u2066\u200f\ufeff"),
        ("a\u2028b\u2029c\udce9", r"a\u2028b\u2029c\udce9"),
    ],
)
def test_control_characters_are_visible(text, shown):
    assert visible(text) == str(InputError(text)) == str(MarengoWarning(text)) == shown
    assert str(Progress("running", f"s3://b/{text}")) == f"running {shown}"


def test_an_unknown_code_has_no_advice():
    assert str(ServiceError.of(refusal("Odd", "odd"), "InvokeModel", "a text")) == "InvokeModel for a text: Odd: odd"


def test_what_is_throttled_is_retried():
    assert THROTTLED < TRANSIENT
    assert not {"AccessDeniedException", "ValidationException", "NoSuchBucket"} & TRANSIENT


def page():
    """docs/errors.md, from the classes and the table of codes."""
    found = [getattr(errors, name) for name in errors.__all__ if isinstance(getattr(errors, name), type)]
    classes = [kind for kind in found if issubclass(kind, MarengoError) and kind is not MarengoError]
    rows = [f"| `{kind.__name__}` | {kind.when} | {kind.action} |" for kind in classes]
    meanings = {id(meaning): meaning for meaning in CODES.values()}.values()
    codes = [
        f"| {', '.join(f'`{code}`' for code, of in CODES.items() if of is meaning)} | {meaning.name} | "
        f"{'yes' if meaning.retried else 'no'} | {advice(meaning)} |"
        for meaning in meanings
    ]
    return rows, codes


def advice(meaning):
    words = MarengoError(meaning.advice, remedy=meaning.remedy).render(lambda name, value: f"`{name}`")
    return words or "See AWS's message; for known messages the error adds advice."


def test_the_page_has_each_class_and_each_code():
    rows, codes = page()
    text = PAGE.read_text()
    assert [line for line in text.splitlines() if line.startswith("| `")] == [*rows, *codes]


def test_each_class_says_when_it_comes_and_what_to_do():
    for name in errors.__all__:
        kind = getattr(errors, name)
        if isinstance(kind, type) and issubclass(kind, MarengoError):
            assert "when" in vars(kind), name
            assert "action" in vars(kind), name


def test_each_code_has_advice():
    assert [code for code in CODES if not advice_for(code, "")[0]] == [
        "ResourceNotFoundException",
        "ValidationException",
    ]
