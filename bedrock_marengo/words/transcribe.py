"""Amazon Transcribe as a source of words: what users set, and one job for each file, never paid twice."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bedrock_marengo.aws.cancellation import cancel_scope
from bedrock_marengo.contract.inputs import Media, split_s3_uri
from bedrock_marengo.contract.models import GB, KINDS
from bedrock_marengo.errors import ConfigurationError, InputError
from bedrock_marengo.media.containers import has_av
from bedrock_marengo.s3.object_version import SourceIdentity
from bedrock_marengo.s3.sidecars import find_captions
from bedrock_marengo.validation import is_int
from bedrock_marengo.words.captions import Transcript
from bedrock_marengo.words.record import RecordFolder, WordsRecord, words_fingerprint
from bedrock_marengo.words.sources import Part, Parts, Service, WordsFile
from bedrock_marengo.words.transcription import Transcription, billed_sec, read_done
from bedrock_marengo.words.transcription_jobs import TranscriptionJobs

__all__ = ["Transcribe"]

# Limits: AWS's Transcribe pages, and botocore's service model of StartTranscriptionJob.
SUFFIXES = (".mp4", ".m4v", ".m4a", ".mp3", ".wav", ".flac", ".ogg", ".opus", ".webm", ".amr")
LARGEST_BYTES = 2 * GB
_LANGUAGE = re.compile(r"[a-z]{2,3}-[A-Z]{2}")
_NAME = re.compile(r"[0-9a-zA-Z._-]{1,200}")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[A-Za-z0-9:_/+=,@.-]{1,512}", re.ASCII)
_OUTPUT_KEY = re.compile(r"[a-zA-Z0-9\-_.!*'()/]*")
_IDENTIFIED = {"auto": "IdentifyLanguage", "multiple": "IdentifyMultipleLanguages"}


@dataclass(frozen=True, slots=True)
class Transcribe:
    """Transcribe files that have no captions with Amazon Transcribe: pass it as ``transcripts=``.

    The words are kept under ``output_s3_uri`` and found again, so each version of a file is paid for once.

    Args:
        language: a language code, such as "en-US"; "auto" identifies the one that is spoken; "multiple" identifies
            several in one file.
        language_options: two or more codes to choose from, with "auto" or "multiple". AWS advises at most 5.
        vocabulary: the name of a custom vocabulary in your account, for a language code.
        data_access_role_arn: a role that Transcribe assumes to read and write S3, instead of the caller's rights. Jobs
            beyond your account's limit are then queued by AWS. Needs iam:PassRole.
        jobs_at_once: how many jobs may run at the same time. AWS allows 250 by default, in older accounts 100.

    Raises:
        ConfigurationError: A value is not valid.
    """

    language: str = "auto"
    language_options: tuple[str, ...] = ()
    vocabulary: str | None = None
    data_access_role_arn: str | None = None
    jobs_at_once: int = 64

    def __post_init__(self) -> None:
        options = self.language_options
        if isinstance(options, Iterable) and not isinstance(options, str):
            object.__setattr__(self, "language_options", tuple(options))
        identified = self.language in _IDENTIFIED if isinstance(self.language, str) else False
        rules = (
            (
                "language",
                identified or _matches(_LANGUAGE, self.language),
                'expected "auto", "multiple" or a language code of Transcribe, such as "en-US".',
            ),
            (
                "language_options",
                isinstance(options, Iterable)
                and not isinstance(options, str)
                and (not self.language_options or (identified and len(set(self.language_options)) >= 2))
                and all(_matches(_LANGUAGE, code) for code in self.language_options),
                'expected two or more language codes, with language "auto" or "multiple".',
            ),
            (
                "vocabulary",
                self.vocabulary is None or (_matches(_NAME, self.vocabulary) and not identified),
                "expected the name of a custom vocabulary (letters, digits and . _ -), with a language code.",
            ),
            (
                "data_access_role_arn",
                self.data_access_role_arn is None or _matches(_ROLE, self.data_access_role_arn),
                "expected a role's ARN: arn:aws:iam::123456789012:role/name.",
            ),
            ("jobs_at_once", is_int(self.jobs_at_once), "expected a whole number, 1 or more."),
        )
        for name, fits, advice in rules:
            if not fits:
                raise ConfigurationError(advice, setting=name, value=getattr(self, name))

    def canonical(self) -> dict[str, Any]:
        """What changes the words: language, its options and vocabulary."""
        return {
            "language": self.language,
            "language_options": sorted(set(self.language_options)),
            "vocabulary": self.vocabulary,
        }

    def request(self) -> dict[str, Any]:
        """The same as StartTranscriptionJob takes it."""
        request: dict[str, Any] = {}
        if self.language in _IDENTIFIED:
            request[_IDENTIFIED[self.language]] = True
            if self.language_options:
                request["LanguageOptions"] = list(self.language_options)
        else:
            request["LanguageCode"] = self.language
        if self.vocabulary is not None:
            request["Settings"] = {"VocabularyName": self.vocabulary}
        if self.data_access_role_arn is not None:
            role = self.data_access_role_arn
            request["JobExecutionSettings"] = {"AllowDeferredExecution": True, "DataAccessRoleArn": role}
        return request

    def open(self, parts: Parts) -> TranscriptSource:
        """The source for one client in one process.

        Raises:
            ConfigurationError: The output prefix has characters that Transcribe refuses.
        """
        if not _OUTPUT_KEY.fullmatch(split_s3_uri(parts.output_s3_uri)[1]):
            raise ConfigurationError(
                "Amazon Transcribe writes only under prefixes of letters, digits and - _ . ! * ' ( ) /. Set "
                "{output_s3_uri} to such a prefix, or leave out transcripts=Transcribe(...).",
                setting="output_s3_uri",
                value=parts.output_s3_uri,
                remedy={"output_s3_uri": "s3://bucket/marengo/"},
            )
        return TranscriptSource(self, parts)


class TranscriptSource:
    """What is said in files, by Amazon Transcribe.

    Args:
        settings: the user's.
        parts: the client's.
    """

    part: Part = "said"
    service: Service = "transcribe"

    def __init__(self, settings: Transcribe, parts: Parts) -> None:
        self.at_once = settings.jobs_at_once
        self._settings = settings
        self._parts = parts
        self._jobs = TranscriptionJobs(parts.aws, jobs_at_once=settings.jobs_at_once)

    # What it takes, what it costs.

    def takes(self, media: Media) -> bool:
        """Whether a file should be transcribed: not an image, nor a file with captions."""
        if not KINDS[media.kind].captions or find_captions(self._parts.objects, media) is not None:
            return False
        self._check(media)
        return True

    def _check(self, media: Media) -> None:
        """Refuse a file that can't be transcribed, before it costs anything."""
        if not KINDS[media.kind].captions:
            raise InputError(f"{media.name} is an image and can't be transcribed.")
        if (why := self._why_extracted(media.name, media.size or 0)) and not has_av():
            raise InputError(
                f"Amazon Transcribe can't read {media.name}: {why}. Install the extra 'media' so that its audio can be "
                "extracted, or put captions next to it. Nothing was billed for its words."
            )

    def fingerprint(self, source: SourceIdentity) -> str:
        """64 hex digits over the file's version, language and vocabulary."""
        return words_fingerprint(self.service, self._settings.canonical(), source)

    def price(self, length_sec: float | None) -> float | None:
        """US dollars: by the second, 15 at least."""
        return None if length_sec is None else billed_sec(length_sec) * self._parts.prices.transcribe_sec

    def _why_extracted(self, name: str, size: int) -> str:
        """Why a file's sound has to be extracted; "" if Transcribe reads the file itself."""
        suffix = name[name.rfind(".") :].lower() if "." in name.rpartition("/")[2] else ""
        if size > LARGEST_BYTES:
            return f"it has {size / GB:.1f} GB, and the limit is {LARGEST_BYTES / GB:g} GB"
        if suffix and suffix not in SUFFIXES and any(suffix in kind.suffixes for kind in KINDS.values()):
            return f"{suffix} is not among {', '.join(SUFFIXES)}"
        if name.startswith("s3://") and self._parts.objects.is_elsewhere(split_s3_uri(name)[0]):
            return "its bucket is in another region"
        return ""

    # The words.

    def is_final(self, source: SourceIdentity) -> bool:
        """Whether our record says that the words are done, or failed for good. One that runs may not have started."""
        found = self._folder(source).read()
        return found is not None and bool(found[0].done or found[0].failed)

    def find(self, source: SourceIdentity) -> Transcript | None:
        """The words that our record says are done; None if there are none yet."""
        found = self._folder(source).read()
        return read_done(self._parts.objects, found[0]) if found and found[0].done else None

    def make(self, file: WordsFile) -> Transcript:
        """The words of a file: found, joined, or transcribed now."""
        self._check(file.media)
        folder = self._folder(file.source)
        with cancel_scope(self._parts.limiter.token()):
            new = WordsRecord(
                service=self.service,
                fingerprint=self.fingerprint(file.source),
                uri=file.source.uri,
                source=file.source.canonical(),
                settings=self._settings.canonical(),
                sound=bool(self._why_extracted(file.source.uri, file.source.size)),
            )
            asked = Transcription(self._parts, self._jobs, folder, file, self._settings.request(), self.price)
            return asked.words(new)

    def _folder(self, source: SourceIdentity) -> RecordFolder:
        parts = self._parts
        return RecordFolder(parts.objects, parts.output_s3_uri, source, self.fingerprint(source))


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and bool(pattern.fullmatch(value))
