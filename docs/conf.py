"""Settings of the documentation's site; `make docs` builds it in an environment of its own."""

project = "robustgeom"
author = "the robustgeom developers"
html_title = "robustgeom"
html_theme = "furo"
extensions = ["myst_parser", "autoapi.extension", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "requirements.txt"]
html_show_sphinx = False
html_copy_source = False

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

# The API is read from the sources, so that the site needs neither torch nor the package.
autoapi_dirs = ["../robustgeom"]
autoapi_generate_api_docs = False
autoapi_keep_files = False
autoapi_python_class_content = "class"
autoapi_options = ["members", "show-module-summary"]
add_module_names = False
python_use_unqualified_type_names = True
default_role = "code"
autodoc_typehints = "signature"
suppress_warnings = ["autoapi.python_import_resolution"]  # constants that modules share but do not offer
