"""Files from other regions, copied to the model's region while a job reads them."""

from __future__ import annotations

import hashlib

from bedrock_marengo.contract.inputs import split_s3_uri
from bedrock_marengo.errors import ConfigurationError
from bedrock_marengo.s3.object_version import SourceIdentity
from bedrock_marengo.s3.objects import S3Objects

__all__ = ["CrossRegionCopies"]


class CrossRegionCopies:
    """Copies of files under a prefix in the model's region, for as long as Bedrock reads them.

    A copy's key comes from the job's folder and its attempt: whoever joins a job finds, and removes, the same copy, and
    no two jobs read one, not even under two output prefixes. Segments keep the original's URI. The next run finds the
    copies that a killed run left; a lifecycle rule of a few days on the prefix removes the rest.

    Args:
        objects: S3.
        staging_s3_uri: ``s3://bucket/prefix/`` in the model's region.
    """

    def __init__(self, objects: S3Objects, staging_s3_uri: str) -> None:
        self._objects = objects
        self._prefix = f"{staging_s3_uri.rstrip('/')}/"

    def needed(self, uri: str) -> bool:
        """Whether a file is in another region than the model."""
        return self._objects.is_elsewhere(split_s3_uri(uri)[0])

    def prefix_of(self, source_folder: str) -> str:
        """The prefix of all copies of a source that jobs under one output prefix read.

        Args:
            source_folder: the folder of its jobs, ``<output>/<sha256(source)[:16]>/``.
        """
        return f"{self._prefix}{hashlib.sha256(source_folder.rstrip('/').encode()).hexdigest()[:16]}/"

    def uri_of(self, source_uri: str, job_folder: str, attempt: int | str) -> str:
        """The copy for one attempt of a job, whether it exists or not.

        Args:
            source_uri: the original.
            job_folder: ``<output>/<sha256(source)[:16]>/<job>/``.
            attempt: from 1; for a synchronous call, what no other call has.
        """
        folder, job = job_folder.rstrip("/").rsplit("/", 1)
        suffix = source_uri.rsplit("/", 1)[-1].rpartition(".")[2]
        return f"{self.prefix_of(folder)}{job}-{attempt}.{suffix}"

    def put(self, source: SourceIdentity, uri: str) -> None:
        """Copy a file within S3 to ``uri``, one of ``uri_of``, unless it is there.

        Raises:
            ConfigurationError: The prefix is not in the model's region.
            ServiceError: AWS refused, or the file has changed since it was listed (code 412).
        """
        self._objects.check_bucket(split_s3_uri(uri)[0])
        copy = self._objects.find(uri)
        if copy is None or copy.size != source.size or self._objects.copied_etag(uri) != source.etag:
            # Only the bytes that the identity names.
            self._objects.copy(source.uri, uri, etag=source.etag)

    def remove(self, uri: str) -> None:
        """Delete a copy; one that is gone already is fine.

        Raises:
            ConfigurationError: Not under the staging prefix: nothing else is ever deleted.
            ServiceError: AWS refused.
        """
        if not uri.startswith(self._prefix):
            raise ConfigurationError(f"{uri!r} is not one of our copies: those are under {self._prefix!r}.")
        self._objects.delete(uri)
