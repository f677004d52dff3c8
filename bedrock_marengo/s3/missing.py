"""Which sources no longer exist: what is left of them after a listing of where they were."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from bedrock_marengo.contract.inputs import Media, split_s3_uri
from bedrock_marengo.errors import InputError
from bedrock_marengo.s3.objects import S3Objects
from bedrock_marengo.s3.uploads import FOLDER, upload_prefix
from bedrock_marengo.validation import short_repr

__all__ = ["missing_sources"]


def missing_sources(
    objects: S3Objects,
    sources: Iterable[str],
    places: Iterable[str | Path],
    *,
    files_in: Callable[[Path], Iterable[Media]],
    output_s3_uri: str,
) -> list[str]:
    """The sources of some places that are not there any more, sorted. Sources elsewhere are not looked at.

    Args:
        objects: S3.
        sources: S3 URIs of objects, or of uploads of local files.
        places: prefixes that end in a slash, objects, and local folders or files.
        files_in: the media files of a local folder.
        output_s3_uri: where local files were uploaded.

    Raises:
        InputError: A place that is none, or a file that can't be read.
        ServiceError: AWS refused to list, which does not show that anything is absent.
    """
    known, gone = set(sources), set[str]()
    paths = []
    for place in places:
        if isinstance(place, Path):
            paths.append(place)
        else:
            gone |= _missing_objects(objects, known, place)
    if paths:
        uploads = f"{output_s3_uri.rstrip('/')}/{FOLDER}/"
        # An upload's URI doesn't say which folder it came from, so all of them are looked at together.
        there = {upload_prefix(media, output_s3_uri) for path in paths for media in files_in(path)}
        gone |= {uri for uri in known if uri.startswith(uploads) and uri.rpartition("/")[0] + "/" not in there}
    return sorted(gone)


def _missing_objects(objects: S3Objects, sources: set[str], place: str) -> set[str]:
    if not isinstance(place, str):
        raise InputError(f"{short_repr(place)} is not a place: expected s3://bucket/prefix/ or a pathlib.Path.")
    key = split_s3_uri(place)[1]
    is_prefix = not key or key.endswith("/")
    prefix = place if key or place.endswith("/") else f"{place}/"
    inside = {uri for uri in sources if (uri.startswith(prefix) if is_prefix else uri == place)}
    if not is_prefix and any(uri.startswith(f"{place}/") for uri in sources):
        raise InputError(f"{place} has no slash at the end, and there are sources below it: pass {place}/.")
    if inside:
        for item in objects.list(prefix) if is_prefix else objects.list(place, limit=1):
            inside.discard(item.uri)
    return inside
