"""Publishing: connectors that vendors write, checked, reviewed, and offered version by version."""
