"""Worker processes. `engine` is the way in; README.md tells the protocol. Empty: the nursery comes past here."""
