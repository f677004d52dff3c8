"""TwelveLabs Marengo on Amazon Bedrock: the shared core. Unofficial; not by AWS or TwelveLabs."""

from bedrock_marengo.client import Done, MarengoClient
from bedrock_marengo.errors import (
    ConfigurationError,
    InputError,
    JobError,
    MarengoError,
    MarengoWarning,
    MediaFailedError,
    MediaNotFoundError,
    OutputError,
    SegmentNotFoundError,
    ServiceError,
)
from bedrock_marengo.inputs import Media, Query, Segmentation
from bedrock_marengo.jobs import Job
from bedrock_marengo.media import Progress
from bedrock_marengo.segments import Segment, SegmentEmbeddings

__all__ = [
    "ConfigurationError",
    "Done",
    "InputError",
    "Job",
    "JobError",
    "MarengoClient",
    "MarengoError",
    "MarengoWarning",
    "Media",
    "MediaFailedError",
    "MediaNotFoundError",
    "OutputError",
    "Progress",
    "Query",
    "Segment",
    "SegmentEmbeddings",
    "SegmentNotFoundError",
    "Segmentation",
    "ServiceError",
]
