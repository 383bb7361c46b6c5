"""Where a job's run belongs, what it is called, and what of the job may be seen there."""

import json
from typing import Any

import pytest

from finetune_wandb.model.relay.cursor import RunPath
from finetune_wandb.model.relay.job import Job, parse_job
from finetune_wandb.relay.run.attributes import path_problem, run_attributes, run_id, run_path
from tests.fakes import relay_account

SECRET = "s3cr3t-value-that-must-not-leave"


def job(**more: Any) -> Job:
    found = parse_job({"id": "ftjob-1", "status": "running", "model": "gpt-4o", **more})
    assert found is not None
    return found


def attributes(found: Job) -> Any:
    return run_attributes(found, relay_account(), asked={}, files={})


def wandb(**more: Any) -> dict[str, Any]:
    return {"integrations": [{"type": "wandb", "wandb": more}]}


@pytest.mark.parametrize(
    ("more", "account", "expected"),
    [
        ({}, {}, "key-team/proj"),
        ({}, {"entity": "tag-team", "project": "tag-proj"}, "tag-team/tag-proj"),
        (
            {"metadata": {"wandb_project": "meta", "wandb_entity": "meta-team"}},
            {"entity": "tag-team", "project": "tag-proj"},
            "meta-team/meta",
        ),
        (
            {
                "metadata": {"wandb_project": "meta", "wandb_entity": "meta-team"},
                **wandb(project="own", entity="own-team"),
            },
            {},
            "own-team/own",
        ),
        (wandb(project="own"), {"entity": "tag-team"}, "tag-team/own"),
    ],
    ids=["settings", "tags", "metadata", "integration", "integration without entity"],
)
def test_run_goes_where_the_nearest_word_says_when_several_do(
    more: dict[str, Any], account: dict[str, str], expected: str
) -> None:
    path = run_path(job(**more), relay_account(**account), key_entity="key-team")
    own = "-relay" if "integrations" in more else ""
    assert str(path) == f"{expected}/ftjob-1{own}"


@pytest.mark.parametrize("name", ["", "a/b", "a\\b", "a#b", "a?b", "a%b", "a:b", "x" * 129])
def test_project_is_refused_when_wandb_would_refuse_it(name: str) -> None:
    assert "project" in path_problem(RunPath("team", name, "r"))
    if name:
        assert "entity" in path_problem(RunPath(name, "proj", "r"))
    assert path_problem(RunPath("", "proj", "r")) == ""


def test_run_ids_stay_apart_when_job_ids_must_be_changed() -> None:
    ids = ["ftjob-1", "a:b", "a;b", "a/b", "a-b", "x" * 70, "x" * 71, "é" * 200]
    found = [run_id(one) for one in ids] + [run_id(one, "-2") for one in ids]
    assert found[0] == "ftjob-1"
    assert len(set(found)) == len(found)
    assert all(len(one) <= 64 and not set(one) & set(":;,#?/'\\%") for one in found)


def test_run_is_described_when_the_job_says_all_there_is() -> None:
    found = attributes(
        job(
            suffix="mine",
            metadata={"team": "nlp", "wandb_tags": "a, b,,", "wandb_project": "p"},
            seed=7,
            method={"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.1, "n_epochs": "auto"}}},
            training_file="file-1",
            trainingType="developerTier",
        )
    )
    assert (found.display_name, found.group, found.job_type) == ("mine", "gpt-4o", "fine-tune")
    assert found.tags == ("azure-openai", "a", "b")
    portal = f"https://portal.azure.com/#resource{relay_account().id}/overview"
    assert found.notes == f"Fine-tuning job ftjob-1 of this [Azure account]({portal})"
    assert found.config["method"] == "dpo"
    assert found.config["hyperparameters"] == {"beta": 0.1, "n_epochs": "auto"}
    assert found.config["metadata"] == {"team": "nlp"}
    assert found.config["seed"] == 7
    assert found.config["region"] == "swedencentral"


def test_tags_are_what_wandb_takes_when_they_are_long_or_repeated() -> None:
    found = attributes(job(**wandb(project="p", tags=["t" * 99, "t" * 99, "", " a ", "a"])))
    assert found.tags == ("azure-openai", "t" * 64, "a")


def test_names_are_cut_at_whole_characters_when_wandb_takes_no_more() -> None:
    long = "ü€😀" * 60
    found = attributes(job(model=long, **wandb(project="p", name=long, tags=[long])))
    for text, most in ((found.group, 128), (found.display_name, 128), (found.tags[1], 64)):
        assert most - 4 < len(text.encode()) <= most
        assert long.startswith(text)
    assert attributes(job(**wandb(project="p", name="\ud800"))).display_name == "ftjob-1"


def test_config_loses_its_largest_field_when_it_is_more_than_wandb_takes() -> None:
    huge = run_attributes(
        job(seed=7), relay_account(), asked={"a": "x" * 9_000_000}, files={"f": "y" * 8_000_000}
    )
    assert huge.config["left_out"] == ["hyperparameters_asked"]
    assert (huge.config["seed"], len(huge.config["f"])) == (7, 8_000_000)
    assert "left_out" not in attributes(job()).config


def test_nothing_private_is_in_the_run_when_the_job_object_has_it() -> None:
    grader = {
        "type": "python",
        "source": f"KEY = '{SECRET}'",
        "headers": {"Authorization": SECRET},
        "api_key": SECRET,
    }
    raw = {
        "method": {
            "type": "reinforcement",
            "reinforcement": {"grader": grader, "hyperparameters": {"eval_samples": 3}},
        },
        "integrations": [{"type": "wandb", "wandb": {"project": "p", "api_key": SECRET}}],
        "hyperparameters": {"password": SECRET, "n_epochs": 2},
        "metadata": {"api_key": SECRET, "note": f"Authorization: Bearer {SECRET}"},
        "unknown_field": SECRET,
        "error": {"code": "x", "message": f"https://grader/?code={SECRET}", "inner": SECRET},
        "suffix": {"nested": SECRET},
    }
    found = job(**raw)
    shown = repr(found) + json.dumps(attributes(found).config) + repr(attributes(found))
    assert SECRET not in shown
    assert found.hyperparameters["eval_samples"] == 3
