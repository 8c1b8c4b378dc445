"""Large bodies decoded, and large answers encoded, in processes of their own.

A parser in C keeps the interpreter's lock until it is done: 30 MB of JSON, and no other caller is answered for a second,
whatever thread it runs in. So what is large goes to a process (`batchproof.service.runtime.processes`) that has the same
codec, and comes back as arrays or as the refusal. `RemoteCodec` is the service's side, `codec_process` the other one.
"""
