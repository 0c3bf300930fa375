"""Write everything that is generated from the code, into this checkout: python -m reference."""

from pathlib import Path

from llmservice_operator import crd
from reference import api_page, conditions_page, metrics_page, openapi

root = Path(__file__).parents[2]
(root / "crds" / "llmservice.yaml").write_text(crd.render())
(root / "docs" / "api.md").write_text(api_page.render())
(root / "docs" / "conditions.md").write_text(conditions_page.render())
(root / "docs" / "metrics.md").write_text(metrics_page.render())
(root / "docs" / "openapi.json").write_text(openapi.render())
