"""The API page."""

PAGE = "<h1>API</h1>"
SCRIPT = ""
