"""The tests of arsync; shared parts are imported as `tests.<module>`."""
