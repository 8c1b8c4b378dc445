"""A stranger's files: a folder without links, JSON without surprises, the seal."""
