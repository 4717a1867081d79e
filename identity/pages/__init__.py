"""The pages of identity: the door, one's own affairs, the organization's settings."""

from identity.pages import door, me, settings
from identity.pages.drawing import blueprint

__all__ = ["blueprint", "door", "me", "settings"]
