"""HTTP: the app's own interface as an OpenAPI 3.1 document, which is a file in pages/."""

from pathlib import Path
from typing import Final

import azure.functions as func

from handlers.problem_details import json_answer

DOCUMENT: Final = Path(__file__).parent / "pages" / "openapi.json"


def answer() -> func.HttpResponse:
    """Answer GET /api/openapi.json."""
    return json_answer(DOCUMENT.read_bytes())
