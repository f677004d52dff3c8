"""TwelveLabs Marengo on Amazon Bedrock: the shared core. Unofficial; not by AWS or TwelveLabs."""

from bedrock_marengo.bulk import Done
from bedrock_marengo.client import MarengoClient
from bedrock_marengo.errors import (
    BudgetError,
    ClosedError,
    ConfigurationError,
    InputError,
    JobError,
    MarengoError,
    MarengoWarning,
    MediaFailedError,
    MediaNotFoundError,
    NotEmbeddedError,
    OutputError,
    SegmentNotFoundError,
    ServiceError,
)
from bedrock_marengo.forgetting import Receipt
from bedrock_marengo.inputs import Manifest, Media, Query, Segmentation
from bedrock_marengo.jobs import Job
from bedrock_marengo.media import Progress
from bedrock_marengo.plan import Plan
from bedrock_marengo.prices import Prices, Usage
from bedrock_marengo.segments import Segment, SegmentEmbeddings

__all__ = [
    "BudgetError",
    "ClosedError",
    "ConfigurationError",
    "Done",
    "InputError",
    "Job",
    "JobError",
    "Manifest",
    "MarengoClient",
    "MarengoError",
    "MarengoWarning",
    "Media",
    "MediaFailedError",
    "MediaNotFoundError",
    "NotEmbeddedError",
    "OutputError",
    "Plan",
    "Prices",
    "Progress",
    "Query",
    "Receipt",
    "Segment",
    "SegmentEmbeddings",
    "SegmentNotFoundError",
    "Segmentation",
    "ServiceError",
    "Usage",
]
