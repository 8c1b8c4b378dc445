"""Tables as request and response bodies over HTTP."""
