"""What people write on a run stays when the relay updates it."""

from dataclasses import replace

from tests.relay.stage import Stage, body, event


async def test_name_notes_and_tags_of_people_stay_when_the_job_pauses_and_goes_on() -> None:
    stage = Stage()
    job = stage.api.put(body(), events=[event(1, train_loss=1.0)])
    await stage.tick()
    ours = stage.run.attributes
    assert (ours.display_name, "ftjob-1" in ours.notes) == ("ftjob-1", True)
    named = replace(ours, display_name="baseline", notes="look at step 40")
    stage.run.attributes = replace(named, tags=("keep", *ours.tags))
    for status, tags in (
        ("paused", ("keep", "azure-openai", "paused")),
        ("running", ("keep", "azure-openai")),
        ("cancelled", ("keep", "azure-openai", "cancelled")),
    ):
        job.body = body(status)
        stage.now += 60
        await stage.tick()
        shown = stage.run.attributes
        assert (shown.display_name, shown.notes) == ("baseline", "look at step 40")
        assert shown.tags == tags
