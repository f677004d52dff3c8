"""Amazon S3 Vectors in memory: vector buckets, indexes and exact search, written from AWS's documentation."""

from __future__ import annotations

from marengo_local.s3_vectors.operations import S3Vectors

__all__ = ["S3Vectors"]
