"""Who may call: keys and tokens, their scopes and models, and how much each caller may ask for.

Nothing here knows a transport: the server's gate asks `Access` (in `credentials`) once for each request, by its head only.
"""
