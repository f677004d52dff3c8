"""What AWS charges for one of each. Data only: a new price is a field here."""

from __future__ import annotations

from dataclasses import dataclass, fields

from bedrock_marengo.contract.models import GB, KINDS, Kind
from bedrock_marengo.errors import ConfigurationError
from bedrock_marengo.validation import is_number, short_repr

__all__ = ["Prices"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """US dollars for one of each. Set your own with ``MarengoClient(prices=Prices(...))``.

    The defaults are from litellm's test data, the same for both versions of Marengo, not from the AWS price page. Those
    of 2.7 may have risen: it has been in extended access since 2026-08-29, for which AWS announced higher prices. The
    price of a copy between regions is the usual one. Check yours.

    Attributes:
        text: a request with a text.
        image: a request with images.
        video_sec: a second of video.
        audio_sec: a second of audio.
        copied_gb: a GB copied from another region, with ``staging_s3_uri=``.
        transcribe_sec: a second transcribed by Amazon Transcribe, in its first tier: 0.024 dollars a minute in
            us-east-1, from public code, unchecked.
        pegasus_sec: a second of video that Pegasus sees, for 1.5 and 1.2; from litellm 1.110.2, as the next one.
        pegasus_output_token: a token of Pegasus' answers. Questions are free.
    """

    text: float = 0.00007
    image: float = 0.0001
    video_sec: float = 0.0007
    audio_sec: float = 0.00014
    copied_gb: float = 0.02
    transcribe_sec: float = 0.0004
    pegasus_sec: float = 0.00049
    pegasus_output_token: float = 7.5e-6

    def __post_init__(self) -> None:
        for price in fields(self):
            value = getattr(self, price.name)
            if not (is_number(value) and 0 <= value < float("inf")):
                raise ConfigurationError(
                    f"Prices({price.name}={short_repr(value)}): expected US dollars, 0 or more.", setting="prices"
                )

    def media(self, kind: Kind, duration_sec: float | None) -> float | None:
        """One file's price; None if it depends on a length that is unknown."""
        rules = KINDS[kind]
        price: float = getattr(self, rules.price)
        if not rules.timed:
            return price
        return None if duration_sec is None else duration_sec * price

    def copied(self, size: int) -> float:
        """A copy of so many bytes from another region."""
        return self.copied_gb * size / GB
