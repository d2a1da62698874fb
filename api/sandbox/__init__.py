"""What runs in a process of its own, between the bytes of strangers and the API: parsers of binary formats.

Nothing here imports the rest of the project, so that the process starts in a few hundredths of a second.
`api.files.sandbox` starts it and reads what it writes.
"""
