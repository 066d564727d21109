"""The lab: the whole federation on one machine, with synthetic people and a clock that can be set."""
