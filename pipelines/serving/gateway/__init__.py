"""The gateway's process, its workers and its admin socket."""
