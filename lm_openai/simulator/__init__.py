"""The demo organization behind the real contract; standard library only."""
