"""Worker processes. `engine` is the way in; README.md tells the protocol. Empty, since nursery and worker come past here."""
