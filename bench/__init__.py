"""Programs that drive a hub from outside, over HTTP alone."""
