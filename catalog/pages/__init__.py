"""The pages of the catalogue: the shelves, the vocabulary, the vendor's desk, the review."""

from catalog.pages import review, shelves, vendor, vocabulary
from catalog.pages.drawing import blueprint, install

__all__ = ["blueprint", "install", "review", "shelves", "vendor", "vocabulary"]
