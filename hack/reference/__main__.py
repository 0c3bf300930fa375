"""Write every generated page: python -m reference DOCS_FOLDER."""

import sys
from pathlib import Path

from reference import api_page, conditions_page

docs = Path(sys.argv[1])
(docs / "api.md").write_text(api_page.render())
(docs / "conditions.md").write_text(conditions_page.render())
