"""HTTP: whether the app is up, and which setting is wrong; nothing else, since it needs no key."""

import azure.functions as func

from finetune_wandb.flows.app import Deps
from finetune_wandb.model.settings import SettingsProblems
from handlers.problem_details import json_answer


def answer(deps: Deps) -> func.HttpResponse:
    """Answer 200 when the settings can be used, else 503 with the name of each wrong one."""
    try:
        deps.settings()
    except SettingsProblems as error:
        return json_answer(
            {
                "status": "down",
                "settings": [
                    {"setting": one.subject, "problem": one.message, "remedy": one.remedy}
                    for one in error.problems
                ],
            },
            503,
        )
    return json_answer({"status": "up"})
