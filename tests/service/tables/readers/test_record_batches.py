"""What a Parquet file may be that no reader of tables opens."""

import base64
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet
from pyarrow.parquet import encryption

from batchproof.service.errors import ServiceError
from batchproof.service.tables.limits.budget import Unpacking
from batchproof.service.tables.readers.record_batches import parquet_batches


class OpenKeys(encryption.KmsClient):  # type: ignore[misc]  # pyarrow ships no types
    """Keys that are their own wrapping."""

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:
        """Return the key as text."""
        return base64.b64encode(key_bytes)


@pytest.mark.parametrize("columns", [("a", "b"), ("b",)], ids=str)
@pytest.mark.parametrize("footer", ["plain", "encrypted"])
def test_an_encrypted_file_is_refused(tmp_path: Path, columns: Sequence[str], footer: str) -> None:
    """Encrypted columns are named as such, whether the footer is readable or not: there is no key, and no crash."""
    wanted = encryption.EncryptionConfiguration(footer_key="f", column_keys={"c": list(columns)})
    wanted.plaintext_footer = footer == "plain"
    factory = encryption.CryptoFactory(lambda _: OpenKeys())
    properties = factory.file_encryption_properties(encryption.KmsConnectionConfig(), wanted)
    path, table = tmp_path / "t.parquet", pa.table({"a": [1.0, 2.0], "b": [3.0, 4.0]})
    with parquet.ParquetWriter(path, table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)
    for unpacking in (Unpacking(None), Unpacking(1 << 30)):
        with path.open("rb") as file, pytest.raises(ServiceError, match="The Parquet file is encrypted") as refused:
            list(parquet_batches(file, lambda names, _: names, 10, unpacking))
        assert refused.value.status == 400
