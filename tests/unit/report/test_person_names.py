"""A name is shown as it is read, and no letter of it is lost."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.report.pdf.names import name_groups

LETTERS = st.text(alphabet="abcXYZäß王小東가かعЖ .-'", max_size=12)


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("Wang^XiaoDong=王^小东", ("Wang, XiaoDong", "王 小东")),
        ("Wang^XiaoDong=王^小东=", ("Wang, XiaoDong", "王 小东")),
        ("Adams^John Robert Quincy^^Rev.^B.A. M.Div.", ("Adams, Rev. John Robert Quincy B.A. M.Div.",)),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", ("Yamada, Tarou", "山田 太郎", "やまだ たろう")),
        ("=王^小东", ("王 小东",)),
        ("^Given", ("Given",)),
        ("Family", ("Family",)),
        ("", ()),
        ("^^^^", ()),
        ("a^b^c^d^e^f", ("a, d b c e f",)),
    ],
)
def test_groups_and_components_are_put_in_reading_order(name, groups):
    assert name_groups(name) == groups


@settings(derandomize=True, deadline=None)
@given(groups=st.lists(st.lists(LETTERS, min_size=1, max_size=5), min_size=1, max_size=3))
def test_no_letter_is_lost(groups):
    name = "=".join("^".join(components) for components in groups)
    shown = " ".join(name_groups(name))
    for component in (component for components in groups for component in components):
        assert component.strip() in shown
