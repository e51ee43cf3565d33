"""The code of the book Vision-Language Models from Scratch.

Nothing is imported here: every page depends on this file, and a page should run again only when
something that it uses has changed.
"""

__version__ = "0.1.0"
