"""The main job with real third-party apps, each in a room of its own."""
