"""The shop's pages: the front, the toolbox, installing and what surrounds every page."""

from marketplace.pages import desk, front, guidance, links, removing, rolling, toolbox
from marketplace.pages.drawing import blueprint, install

__all__ = [
    "blueprint",
    "desk",
    "front",
    "guidance",
    "install",
    "links",
    "removing",
    "rolling",
    "toolbox",
]
