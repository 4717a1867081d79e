"""The operator's desk: how the hub is, who uses it and how much, and what operators did."""
