"""Who may call: keys and tokens, their scopes and models, and how much each caller may ask for.

Nothing here knows a transport: the server's gate asks `Access.check` once for each request, on its head alone.
"""
