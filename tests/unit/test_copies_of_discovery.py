"""The names and notes of discovery rows scored by the released parts say what each kind of model has seen of them."""

from train.evaluate.fit_scores import FIT_NOTES
from train.evaluate.published import read_published
from train.evaluate.score_table import FIT_COPIES
from train.evaluate.tables import c_index_table


def test_fused_models_are_called_apparent_in_validation_wherever_it_is_named():
    assert FIT_COPIES["validation"] == "validation (networks selected on, fused models apparent)"
    notes = " ".join(c_index_table((), (), str, read_published(), "").notes)
    for words in (notes, " ".join(FIT_NOTES)):
        assert "fused models (forests, Radiomic, Benchmark" in words
        assert "apparent" in words


def test_a_fit_says_that_mmf_is_not_strictly_out_of_fold_and_by_how_much():
    told = [line for line in FIT_NOTES if "networks have seen fold k" in line]
    assert len(told) == 1
    assert ".004 to .007" in told[0]
