from dataclasses import dataclass

from pydantic import TypeAdapter

from engines.phase import Phase
from node.steps import Steps, digest_words


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    phase: Phase
    numbers: tuple[float, ...]


FORM = TypeAdapter(Found)


class Counter:
    def __init__(self, folder):
        self.calls = 0
        self.output = folder / "masks" / "a.bin"

    def __call__(self):
        self.calls += 1
        self.output.parent.mkdir(exist_ok=True)
        self.output.write_bytes(b"made")
        return Found(phase=Phase.DELAYED, numbers=(0.1, 1e-17))


def run(folder, work, inputs=("x",)):
    return Steps(folder=folder).run("segment", inputs, work, FORM, [work.output])


def test_a_finished_step_is_not_done_again_and_its_value_is_the_same(tmp_path):
    work = Counter(tmp_path)
    first = run(tmp_path, work)
    steps = Steps(folder=tmp_path)
    again = steps.run("segment", ["x"], work, FORM, [work.output])
    assert work.calls == 1
    assert again == first
    assert [done.reused for done in steps.done] == [True]


def test_other_inputs_do_the_step_again(tmp_path):
    work = Counter(tmp_path)
    run(tmp_path, work)
    run(tmp_path, work, inputs=("y",))
    assert work.calls == 2


def test_a_changed_or_lost_output_does_the_step_again(tmp_path):
    work = Counter(tmp_path)
    run(tmp_path, work)
    work.output.write_bytes(b"other")
    run(tmp_path, work)
    work.output.unlink()
    run(tmp_path, work)
    assert work.calls == 3


def test_a_damaged_record_does_the_step_again(tmp_path):
    work = Counter(tmp_path)
    run(tmp_path, work)
    (tmp_path / "steps" / "segment.json").write_text('{"key": ')
    run(tmp_path, work)
    assert work.calls == 2


def test_the_digest_of_words_keeps_their_borders():
    assert digest_words(["ab"]) != digest_words(["a", "b"])
