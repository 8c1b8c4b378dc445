"""The journal: what was asked and what was answered, kept so that any answer can be proved by running it again.

    journal/penguins-1-3f2a9c04-000000.arrows          rows with their answers: an Arrow stream
    journal/penguins-1-3f2a9c04-000000.arrows.sha256   how many bytes of it have which SHA-256

A *segment* holds rows of one version of one model, written by one process. Segments of a process follow one another in a
*chain*: each names the SHA-256 of the one before it, so that none can be changed, exchanged or left out unseen.
`entries.py` says what is kept of a request, `segment.py` writes one file, `writer.py` fills segments off the hot path,
`remote/` uploads finished ones to an object store, `reader.py` checks and reads them, `replay.py` runs their rows again.
"""
