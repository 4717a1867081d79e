"""Drifting: what an app sends or answers that its connector's schemas no longer foresee."""
