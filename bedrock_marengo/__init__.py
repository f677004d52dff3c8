"""TwelveLabs Marengo on Amazon Bedrock: the shared core. Unofficial; not by AWS or TwelveLabs."""

from bedrock_marengo.aws.start_rate import JobSlots
from bedrock_marengo.client import MarengoClient
from bedrock_marengo.contract.inputs import Manifest, Media, Query, Segmentation
from bedrock_marengo.contract.segments import Segment, SegmentEmbeddings
from bedrock_marengo.embedding.batch import MediaResult
from bedrock_marengo.embedding.plan import Plan
from bedrock_marengo.embedding.pricing import Prices, Usage
from bedrock_marengo.embedding.run_options import Progress
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
from bedrock_marengo.jobs.cleanup import DeletionReport
from bedrock_marengo.jobs.job import Job
from bedrock_marengo.search.citations import citation
from bedrock_marengo.words.asking import Answer
from bedrock_marengo.words.captions import Transcript
from bedrock_marengo.words.pegasus import Pegasus
from bedrock_marengo.words.transcribe import Transcribe

__all__ = [
    "Answer",
    "BudgetError",
    "ClosedError",
    "ConfigurationError",
    "DeletionReport",
    "InputError",
    "Job",
    "JobError",
    "JobSlots",
    "Manifest",
    "MarengoClient",
    "MarengoError",
    "MarengoWarning",
    "Media",
    "MediaFailedError",
    "MediaNotFoundError",
    "MediaResult",
    "NotEmbeddedError",
    "OutputError",
    "Pegasus",
    "Plan",
    "Prices",
    "Progress",
    "Query",
    "Segment",
    "SegmentEmbeddings",
    "SegmentNotFoundError",
    "Segmentation",
    "ServiceError",
    "Transcribe",
    "Transcript",
    "Usage",
    "citation",
]
