"""How Sphinx makes the site: `scripts/docs` gathers the pages, which are those of the repository, and calls it."""

from importlib.metadata import version as version_of

project = "yjs-gateway"
copyright = "the maintainers of yjs-gateway"
version = release = version_of("yjs-gateway")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
root_doc = "index"
myst_heading_anchors = 4
myst_enable_extensions = ["html_image"]
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True
copybutton_here_doc_delimiter = "END"

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_format = "short"
autodoc_default_options = {
    "members": True,
    "inherited-members": False,
    "exclude-members": "__new__, __init__, __post_init__",
}
autoclass_content = "both"

html_theme = "furo"
html_title = "yjs-gateway"
html_static_path: list[str] = []
suppress_warnings = ["misc.highlighting_failure"]  # of JSX with text in it

pygments_style = "friendly"
pygments_dark_style = "github-dark"
