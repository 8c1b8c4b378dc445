"""Bundles written to where others fetch them from: a folder, an object store, the Hugging Face Hub."""
