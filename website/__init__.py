"""How the book becomes a site; `python -m website.build` does all of it.

pages reads the pages, fingerprint says which are stale, execute runs those, Sphinx (conf.py and
ext/) turns them into HTML, notebooks exports them, and check looks at the result.
"""
