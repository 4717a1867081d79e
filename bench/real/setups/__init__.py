"""What is run inside an app by its own shell or interpreter; nothing of the hub is there."""
