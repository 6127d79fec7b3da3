"""Templates reach nothing of Python, and end soon with a bounded text, whatever they say."""

import itertools
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.base.errors import PenstockError
from penstock.templating import sandbox, template
from penstock.templating.errors import InvalidTemplate, RenderFailed, TooMuchWork
from penstock.templating.sandbox import METHODS
from penstock.templating.template import read_template
from penstock.templating.values import TEMPLATE_FILTERS
from penstock.templating.work import MAX_CHARS, Work


def fill(source: str, **values: Any) -> str:
    return read_template(source).fill(values, Work())


def test_values_names_conditions_and_loops_are_filled_in() -> None:
    source = "{% for one in items %}{{ loop.index }}. {{ one.name|upper }}{% if not loop.last %}, {% endif %}{% endfor %}"
    assert fill(source, items=[{"name": "ä"}, {"name": "b"}]) == "1. Ä, 2. B"
    assert (
        fill("{{ a ~ 1 ~ none }} {{ [1, 'ü', none] }} {{ {'k': true} }}", a="x")
        == 'x1 [1, "ü", null] {"k": true}'
    )
    assert fill("{{ row.items }} {{ row['keys'] }}", row={"items": 3, "keys": 4}) == "3 4"
    assert fill("a\n{% if true %}\nb\n{% endif %}\nc\n") == "a\nb\nc\n"


def test_values_are_never_read_as_templates() -> None:
    assert fill("{{ a }}{{ b }}", a="{{ b }}", b="{% raw %}") == "{{ b }}{% raw %}"


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ ''['__class__'] }}",
        "{{ x|attr('__class__') }}",
        "{{ x|map(attribute='__class__')|list }}",
        "{{ x|map('attr', '__class__')|list }}",
        "{{ '{0.__class__}'.format(x) }}",
        "{{ '%s'|format(x) }}",
        "{{ x.append(1) }}",
        "{{ x.__init__.__globals__ }}",
        "{{ self.__init__ }}",
        "{{ self._TemplateReference__context }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{{ lipsum.__globals__ }}",
        "{{ namespace(a=1) }}",
        "{{ range.__self__ }}",
        "{% for a in x %}{{ loop.__class__ }}{% endfor %}",
        "{% for a in x %}{{ loop._iterator }}{% endfor %}",
        "{% for a in x recursive %}{{ loop(x) }}{% endfor %}",
        "{% include 'x' %}",
        "{% import 'x' as y %}",
        "{% from 'x' import y %}",
        "{% extends 'x' %}",
        "{% block x %}{% endblock %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% call x() %}{% endcall %}",
        "{{ 'x'.encode() }}",
        "{{ x.sort() }}",
        "{{ d.update({}) }}",
        "{{ d.popitem() }}",
        "{{ ''.join.__self__ }}",
        "{{ (1).bit_length() }}",
        "{{ x|(counted) }}",
        "{{ caller() }}",
        "{{ [].__reduce__ }}",
    ],
)
def test_known_ways_out_are_closed(source: str) -> None:
    with pytest.raises((InvalidTemplate, RenderFailed)):
        fill(source, x=[1], d={"a": 1})


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'a' * 10**9 }}",
        "{{ [0] * 10**9 }}",
        "{{ 10**4000 * 10**4000 }}",
        "{{ (9**9)**(9**9) }}",
        "{{ range(10**9)|list }}",
        "{{ 'a'|indent(10**9) }}",
        "{{ 1.5|round(10**9) }}",
        "{{ x|tojson(indent=10**9) }}",
        "{{ ('a' * 10000)|replace('a', 'b' * 10000) }}",
        "{{ x|join('a' * 1000000)|length }}{{ (['a'] * 100)|join('a' * 1000000) }}",
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% set a = 'x' * 1000 %}" + "{% set a = a ~ a %}" * 40 + "{{ a }}",
        "{% set a = 'x' * 1000 %}" + "{% set a = a + a %}" * 40 + "{{ a }}",
        "{% set a = [1] %}" + "{% set a = [a, a] %}" * 60 + "{{ a }}",
        "{% set a = {'k': 1} %}" + "{% set a = {'k': a, 'l': a} %}" * 60 + "{{ a|tojson }}",
        "{% set a = (1,) %}" + "{% set a = a + a %}" * 60 + "{{ a|length }}",
        "{% for i in range(1000) %}" + "{{ big }}" * 20 + "{% endfor %}",
        "{{ " + "(" * 400 + "1" + ")" * 400 + " }}",
        "{{ " + "9" * 5000 + " }}",
        "{{ " + "1 + " * 5000 + "1 }}",
    ],
)
def test_no_template_works_long_or_writes_much(source: str) -> None:
    with pytest.raises((TooMuchWork, RenderFailed, InvalidTemplate)):
        fill(source, x=[1, 2, 3], big="y" * 1000)


def test_time_is_bounded_by_a_clock_that_loops_look_at() -> None:
    clock = itertools.count(0, 1).__next__
    with pytest.raises(TooMuchWork, match="longer than 5 s"):
        read_template("{% for a in range(50) %}{% endfor %}").fill({}, Work(clock))


def test_output_over_the_bound_is_refused_and_just_below_is_not() -> None:
    assert len(fill("{{ x }}", x="y" * MAX_CHARS)) == MAX_CHARS
    with pytest.raises(TooMuchWork):
        fill("{{ x }}z", x="y" * MAX_CHARS)


@given(
    names=st.lists(
        st.sampled_from(["__class__", "__init__", "__globals__", "_x", "mro", "format", "func_globals"]),
        min_size=1,
    ),
    base=st.sampled_from(["x", "''", "[]", "{}", "1", "range", "none", "x[0]", "d.k"]),
)
def test_no_chain_of_attributes_reaches_python(names: list[str], base: str) -> None:
    for source in (
        "{{ " + ".".join([base, *names]) + " }}",
        "{{ " + base + "".join(f"['{n}']" for n in names) + " }}",
    ):
        with pytest.raises((InvalidTemplate, RenderFailed)):
            fill(source, x=["text"], d={"k": {}})


@given(st.text(max_size=80))
def test_any_text_is_filled_in_or_refused_as_our_own_error(source: str) -> None:
    try:
        fill(source)
    except PenstockError as error:
        assert error.code.startswith("PS-124")  # noqa: PT017 - either will do


@given(
    st.lists(
        st.sampled_from([*TEMPLATE_FILTERS, *(m for each in METHODS.values() for m in each)]), max_size=6
    )
)
def test_any_chain_of_filters_ends_in_text_or_our_own_error(names: list[str]) -> None:
    source = (
        "{{ x" + "".join(f"|{name}" if name in TEMPLATE_FILTERS else f".{name}()" for name in names) + " }}"
    )
    try:
        assert isinstance(fill(source, x=[{"a": "b"}, 3, "c"]), str)
    except PenstockError as error:
        assert error.code.startswith("PS-124")  # noqa: PT017 - either will do


@pytest.mark.parametrize(
    ("source", "line", "pointed"),
    [
        ("Hello {{ name } there", 1, "}"),
        ("a\nb {{ a b }}", 2, "b"),
        ("{% for x in y %}{{ x }}", 1, None),
        ("one\ntwo {{ x|lenght }}", 2, None),
        ("{% if %}", 1, None),
    ],
)
def test_a_mistake_is_shown_in_its_line(source: str, line: int, pointed: str | None) -> None:
    with pytest.raises(InvalidTemplate) as caught:
        read_template(source)
    message = caught.value.message
    assert f"line {line}" in message
    assert source.split("\n")[line - 1] in message
    if pointed is not None:
        shown, caret = message.split("\n")[-2:]
        assert shown[caret.index("^")] == pointed


def test_misspelt_filters_get_the_near_name() -> None:
    with pytest.raises(InvalidTemplate, match="Did you mean 'length'"):
        read_template("{{ x|lenght }}")


@pytest.mark.parametrize(
    "source",
    [
        "{% set a = ('\u20ac' * 8000000)|list %}",
        "{% set a = ('\u20ac' * 8000000)|unique|list %}",
        "{% set a = ('\u20ac' * 8000000)|map('upper')|list %}",
        "{{ ('\u20ac' * 8000000)|join('')|length }}",
        "{{ ('\u20ac ' * 4000000).split()|length }}",
        "{{ ('\u20ac ' * 4000000).split(' ')|length }}",
        "{{ ('a\n' * 4000000).splitlines()|length }}",
        "{{ ('\n' * 8000000)|indent|length }}",
        "{{ ('a ' * 4000000)|title|length }}",
        "{% set a = [1] * 120000 %}{% set b = a + a %}",
    ],
)
def test_no_operation_makes_lists_of_millions(source: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(TooMuchWork):
            fill(source)
        assert tracemalloc.get_traced_memory()[1] < 120_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "make",
    [
        "{% set a# = '\u20ac' * 8000000 %}",
        "{% set a# = (x ~ #)|list %}",
        "{% set a# = t[1:] %}",
        "{% set a# = t.upper() %}",
        "{% set a# = t|lower %}",
        "{% set a# %}{% for i in range(100) %}{{ x }}{% endfor %}{% endset %}",
        "{% set a# %}{% for i in range(1000) %}" + "x" * 20_000 + "{% endfor %}{% endset %}",
    ],
)
def test_what_is_kept_counts_in_all(make: str) -> None:
    source = "".join(make.replace("#", str(number)) for number in range(24 if "20" in make else 400))
    with pytest.raises((TooMuchWork, InvalidTemplate)) as raised:
        fill(
            source[:499_000].rpartition("{% set")[0] if len(source) > 499_000 else source,
            x="\u20ac" * 50_000,
            t="a\u20ac" * 900_000,
        )
    assert "more than" in raised.value.message


def test_ordinary_work_is_not_refused() -> None:
    rows = [{"name": f"n{number}", "tags": ["a", "b"]} for number in range(5000)]
    source = (
        "{% for row in rows %}{{ loop.index }}. {{ row.name|title }} {{ row.tags|join(', ') }}\n{% endfor %}"
    )
    assert fill(source, rows=rows).count("\n") == 5000
    long = "word " * 100_000
    assert fill("{{ text|wordcount }} {{ text.split()|length }} {{ text|lower|length }}", text=long) == (
        "100000 100000 500000"
    )
    assert (
        fill("{% set a %}x {{ b }}{% endset %}{{ a|upper }}{% filter upper %}c{% endfilter %}", b="y")
        == "X YC"
    )
    assert fill("{{ 'a,b'.split(',', 1) }} {{ 'abc'[1:] }}") == '["a", "b"] bc'


@pytest.mark.parametrize(
    "source",
    ["{{ 1e999 }}", "{{ ('nan'|float)|tojson }}", "{{ 'inf'|float }}", "{{ [1e308 * 10] }}", "{{ -1e999 }}"],
)
def test_numbers_that_are_none_are_the_templates_fault(source: str) -> None:
    with pytest.raises((InvalidTemplate, RenderFailed)):
        fill(source)


def test_a_template_of_very_many_words_is_refused_before_it_is_read() -> None:
    read_template("{{ a }}" * 4_000)
    for source in (
        "{{ a }}" * 70_000,
        "{{ [" + "1," * 100_000 + "] }}",
        "{{ '}}' ~ [" + "1," * 100_000 + "] }}",
    ):
        with pytest.raises(InvalidTemplate, match="words and signs"):
            read_template(source)


def test_nothing_is_calculated_when_a_template_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setitem(sandbox.TEMPLATE_FILTERS, "upper", asked.append)
    monkeypatch.setitem(template._ENVIRONMENT.filters, "upper", asked.append)
    read_template.cache_clear()
    assert read_template("{{ ('a' ~ 'b')|upper }} {% set c = 'd'|upper %}{{ e }}").names == {"e"}
    assert asked == []
