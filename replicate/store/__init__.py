"""The store: finished runs on disk, shared by processes and machines, each written whole or not at all."""
