"""Signed bundles: who vouches for the files of a folder, in the format of OpenSSF Model Signing v1.

`model.sig` is a Sigstore bundle (v0.3, JSON). It holds a DSSE envelope around an in-toto statement, and the statement
lists one SHA-256 for each file. `statement.py` and `envelope.py` read and write these layers, `trust.py` decides whether
a signature counts, `signer.py` makes one.
"""

SIGNATURE_FILE = "model.sig"
SIGNATURE_BYTES = 1 << 20  # the largest signature that is read
