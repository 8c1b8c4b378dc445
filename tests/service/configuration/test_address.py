"""A text is a folder of this machine or an address; what is neither is refused in one sentence without a password in it."""

from pathlib import Path

import pytest

from batchproof.service.configuration import settings
from batchproof.service.configuration.address import Address, AddressError, root_of
from batchproof.service.errors import SettingError


@pytest.mark.parametrize(
    "text", ["models", "/srv/models/penguins", "./a:b", "C:/models", "a@b", "s3", "models/s3/1", "x/s3://y"]
)
def test_a_path_is_a_folder(text: str) -> None:
    """What does not begin with a scheme is a path, as it is written."""
    assert root_of(text) == Path(text)
    assert root_of(Path(text)) == Path(text)


@pytest.mark.parametrize(
    ("text", "scheme", "rest"),
    [
        ("s3://bucket/models", "s3", "bucket/models"),
        ("S3://bucket/models/", "s3", "bucket/models"),
        ("gs://bucket", "gs", "bucket"),
        ("az://container/models/penguins", "az", "container/models/penguins"),
        ("https://example.org:8443/models/penguins/1/", "https", "example.org:8443/models/penguins/1"),
        ("http://localhost:8000/penguins", "http", "localhost:8000/penguins"),
        ("http://[::1]:8000/penguins", "http", "[::1]:8000/penguins"),
        ("hf://owner/name", "hf", "owner/name"),
        ("hf://owner/name@v1.0", "hf", "owner/name@v1.0"),
        ("mlflow:models:/penguins@champion", "mlflow", "models:/penguins@champion"),
        ("mlflow:models:/penguins/3", "mlflow", "models:/penguins/3"),
    ],
)
def test_an_address_is_told_from_a_path(text: str, scheme: str, rest: str) -> None:
    """Each scheme has its form, and an address is written back as it was, less a slash at its end."""
    address = root_of(text)

    assert (address.scheme, address.rest) == (scheme, rest) if isinstance(address, Address) else False
    assert str(address) == scheme + text[len(scheme) :].rstrip("/")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ftp://host/models", "ftp:// is not supported"),
        ("file:///srv/models", "file:// is not supported"),
        ("s3://", "write s3://BUCKET/FOLDER"),
        ("s3://bucket/a\x1b[2J", "write s3://BUCKET/FOLDER"),
        ("https:///models", "write https://HOST/FOLDER"),
        ("https://host/models?token=1", "write https://HOST/FOLDER"),
        ("http://example.org/models", "use https"),
        ("http://localhost.example.org/models", "use https"),
        ("hf://name", "write hf://OWNER/NAME"),
        ("hf://owner/name/3", "write hf://OWNER/NAME"),
        ("mlflow:penguins", "write mlflow:models:/NAME@ALIAS"),
        ("mlflow://penguins", "write mlflow:models:/NAME@ALIAS"),
        ("mlflow:models:/penguins/latest", "write mlflow:models:/NAME@ALIAS"),
    ],
)
def test_what_is_no_address_is_refused(text: str, says: str) -> None:
    """The refusal shows the form that the scheme has, and nothing that moves a cursor."""
    with pytest.raises(AddressError, match=r"[^\x00-\x1f]*") as refused:
        root_of(text)

    assert says in str(refused.value)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("text", ["https://user:secret@host/models", "s3://key:secret@bucket/models"])
def test_a_password_is_neither_kept_nor_shown(text: str) -> None:
    """An address holds no password, which would stand in logs; the refusal does not show it either, nor do the settings."""
    with pytest.raises(AddressError, match="no password") as refused:
        root_of(text)
    with pytest.raises(SettingError, match="no password") as of_settings:
        settings.load({"models": text}, {})

    assert "secret" not in str(refused.value) + str(of_settings.value)
