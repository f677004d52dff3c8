"""Captions that are written next to a file, or into a folder: never over a file that is there."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from bedrock_marengo.contract.inputs import Media, split_s3_uri
from bedrock_marengo.errors import InputError
from bedrock_marengo.s3.objects import S3Objects

__all__ = ["write_captions"]


def write_captions(objects: S3Objects, media: Media, captions: str, output: Path | str | None = None) -> str | None:
    """Write a file's captions as ``match.vtt``.

    Args:
        objects: S3.
        media: the file, on S3 or local.
        captions: WebVTT.
        output: a local folder, or an S3 prefix; below it, files on S3 keep their keys. None is next to the file.

    Returns:
        Path or S3 URI of what was written; None if there is a file of that name.

    Raises:
        InputError: A local file can't be written, or the media are in memory.
        ServiceError: AWS refused.
    """
    place = _place(media, output)
    if isinstance(place, str):
        return place if objects.put_if_absent(place, captions.encode()) is not None else None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("x", encoding="utf-8", newline="\n") as file:
            file.write(captions)
    except FileExistsError:
        return None
    except OSError as error:
        raise InputError(f"The captions can't be written to {str(place)!r}: {error}") from None
    return str(place)


def _place(media: Media, output: Path | str | None) -> Path | str:
    """Where a file's captions go."""
    if media.path is None and media.uri is None:
        raise InputError("Media in memory has no place for captions: use the transcript's .captions.")
    bucket, key = ("", media.path.name) if media.path is not None else split_s3_uri(media.uri or "")
    name = f"{PurePosixPath(key).with_suffix('')}.vtt"
    if isinstance(output, str):
        return f"{output.rstrip('/')}/{name}"
    if output is not None:
        return _inside(output, name)
    return media.path.with_name(name) if media.path is not None else f"s3://{bucket}/{name}"


def _inside(folder: Path, name: str) -> Path:
    """A key below a local folder. A key is text: ``../`` in it leads nowhere."""
    parts = [part for part in name.split("/") if part not in ("", ".", "..") and "\0" not in part]
    return folder.joinpath(*parts)
