"""Names of extensions: built in, entry points, dotted paths."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import EntryPoint

import pytest

from tidemill import extensions
from tidemill.errors import UsageError
from tidemill.extensions import Registry, search_beside


def accept(name, value):
    if not callable(value):
        raise TypeError(f"expected something to call, found {value!r}")
    return value


@pytest.fixture
def registry(monkeypatch):
    points = [EntryPoint("mean", "statistics:mean", "tidemill.tests"), EntryPoint("root", "cmath:sqrt", "tidemill.tests")]
    monkeypatch.setattr(extensions, "entry_points", lambda group: [point for point in points if point.group == group])
    return Registry("statistic", "tidemill.tests", {"median": "statistics:median", "pi": "math:pi"}, accept)


class TestRegistry:
    def test_finds_built_in_names_entry_points_and_dotted_paths(self, registry, tmp_path):
        (tmp_path / "functions.py").write_text("def spread(values):\n    return max(values) - min(values)\n")
        assert registry.names == ("median", "pi", "mean", "root")
        assert registry.get("median")([1, 2, 9]) == 2
        assert registry.get("mean")([1, 2, 9]) == 4
        assert registry.get("functions.spread", tmp_path)([1, 2, 9]) == 8
        assert registry.get("statistics.mode")([1, 1, 2]) == 1

    def test_searches_beside_the_spec(self, registry, tmp_path):
        (tmp_path / "functions.py").write_text("def largest(values):\n    return max(values)\n")
        with pytest.raises(UsageError, match="functions"):
            registry.get("functions.largest")
        with search_beside(tmp_path):
            assert registry.get("functions.largest")([1, 9]) == 9

    def test_finds_a_dotted_path_again_where_one_spec_has_it(self, registry, tmp_path):
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "functions.py").write_text("def largest(values):\n    return max(values)\n")
        registry.get("functions.largest", tmp_path / "a")
        with ThreadPoolExecutor(1) as pool:  # a thread inherits no `search_beside`
            assert pool.submit(registry.get, "functions.largest").result()([1, 9]) == 9
        registry.get("functions.largest", tmp_path / "b")
        with pytest.raises(UsageError, match="functions"):
            registry.get("functions.largest")

    def test_sees_a_changed_file(self, registry, tmp_path):
        file = tmp_path / "functions.py"
        file.write_text("def first(values):\n    return values[0]\n")
        assert registry.get("functions.first", tmp_path)([1, 2]) == 1
        file.write_text("def first(values):\n    return values[-1]\n")
        assert registry.get("functions.first", tmp_path)([1, 2]) == 2

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            (
                "medain",
                r"no statistic is called 'medain'; did you mean 'median'\?; choose from median, pi, mean, root, or give the dotted path",
            ),
            ("nowhere.at_all", r"nowhere"),
            ("pi", r"the statistic 'pi' cannot be used: expected something to call, found 3\.14"),
        ],
    )
    def test_names_what_is_wrong(self, registry, name, message):
        with pytest.raises(UsageError, match=message):
            registry.get(name)

    def test_refuses_an_entry_point_with_a_built_in_name(self, registry, monkeypatch):
        monkeypatch.setattr(extensions, "entry_points", lambda group: [EntryPoint("median", "cmath:sqrt", group)])
        with pytest.raises(UsageError, match=r"the statistic 'median' of cmath:sqrt has the name of a built-in one"):
            registry.get("median")
