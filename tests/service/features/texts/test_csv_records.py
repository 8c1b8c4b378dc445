"""Records of text tables: what parts their cells, and where bytes are no text."""

import io
from collections.abc import Sequence
from itertools import cycle, islice

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batchproof.service.errors import ServiceError
from batchproof.service.features.texts.csv_records import MAX_LINE_BYTES, SIGNS, Records, column_names, delimiter_of


@pytest.mark.parametrize(
    "head, delimiter",
    [
        ("a,b,c\n", ","),
        ("a;b;c\n", ";"),
        ("a\tb\n", "\t"),
        ("a|b|c", "|"),
        ("length, mm;b;c\n", ";"),
        ("a;b,c\n", ","),
        ("alone\n", ","),
        ('"a;b;c;d",e,f\n', ","),
        ('"say ""a;b;c;d""",e\n', ","),
        ('5";6";7",a;b,c\n', ";"),
        ("", ","),
    ],
)
def test_the_delimiter_is_the_commonest_outside_of_quotes(head: str, delimiter: str) -> None:
    """The commonest of the four signs in the names parts the cells; a comma where it is as common as another."""
    assert delimiter_of(head) == delimiter
    assert delimiter_of(head, "\t") == "\t"


def test_the_header_may_begin_late_and_have_lines() -> None:
    """Blank lines before the names, and line ends in quotes among them, do not hide what parts them."""
    records = Records(io.BytesIO(b'\xef\xbb\xbf\r\n\n"a,\nb,";c\r\n1;"2,3"\r\n'), SIGNS)

    assert list(records) == [(3, ["a,\nb,", "c"]), (5, ["1", "2,3"])]


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\r"])
def test_the_mark_of_dos_at_the_end_is_no_text(end: str) -> None:
    """Ctrl-Z behind the last line, or in its end, is not part of the table; anywhere else it is text."""
    records = Records(io.BytesIO(f"a,b\n1\x1a,2\x1a\n3,4{end}\x1a".encode()), SIGNS)

    assert [cells for _, cells in records] == [["a", "b"], ["1\x1a", "2\x1a"], ["3", "4"]]


def test_blanks_behind_separators_are_of_cells_where_there_is_no_header() -> None:
    """A header whose separators are all followed by a blank says that blanks are not part of the cells; a row says nothing."""
    body = b"a, b\n1, 2\n"
    assert [cells for _, cells in Records(io.BytesIO(body), SIGNS)] == [["a", "b"], ["1", "2"]]
    assert [cells for _, cells in Records(io.BytesIO(body), SIGNS, has_header=False)] == [["a", " b"], ["1", " 2"]]


@pytest.mark.parametrize(
    "body, sentence",
    [
        (b'a,b\n1,"2"3\n', "Line 2 is not CSV in UTF-8: text follows a closing quote"),
        (b'a,b\r1,2\n3,"4\r\n', "Line 3 is not CSV in UTF-8: a quote is opened and never closed"),
        (b"a,b\n1," + b"2" * 140_000 + b"\n", "Line 2 is not CSV in UTF-8: a cell has more than 131072 characters"),
        (b"a,b\n1," + b"2" * MAX_LINE_BYTES + b"\n", "Line 2 is not CSV in UTF-8: a line has more than 1048575 bytes"),
        (b"a,b\r1," + b"2" * MAX_LINE_BYTES + b"\r", "Line 2 is not CSV in UTF-8: a line has more than 1048575 bytes"),
    ],
)
def test_what_is_no_record_has_a_line(body: bytes, sentence: str) -> None:
    """A broken quote, a cell or a line without end is refused by its line, whatever ends the lines."""
    with pytest.raises(ServiceError, match=sentence):
        list(Records(io.BytesIO(body), SIGNS))


def test_names_lose_their_blanks_unless_a_feature_has_them() -> None:
    """`age, sex` names `sex`; a model that was trained with ` sex` keeps its name."""
    assert column_names(["age", " sex", " id "], ("age", " sex")) == ["age", " sex", "id"]


def test_a_quote_without_end_is_refused() -> None:
    """A header whose quote is never closed is refused, and not looked through to the end of the file."""
    file = io.BytesIO(b'a,"b\n' + b"1,2\n" * 1_000_000)

    with pytest.raises(ServiceError, match="Line 1 is not CSV"):
        list(Records(file, SIGNS))
    assert file.tell() < MAX_LINE_BYTES


@pytest.mark.parametrize(
    "body, sentence",
    [
        (b"a,b\n1,\xe9t\xe9\n", "Line 2, column 'b', is not UTF-8 (byte 0xe9): convert the table with iconv -f latin1"),
        (b"a,b\n1,2,\xe9\n", "Line 2, cell 3, is not UTF-8"),
        (b"a,b\xe9\n1,2\n", "Line 1, name 2 of the columns, is not UTF-8"),
        (b'a,b\n1,"x\n\xe9\n"\n', "Line 3, column 'b', is not UTF-8"),
        (b'a;b|"c\n1;2\n\xe9;3\n', "Line 3, column 'a', is not UTF-8"),
        (b'a,b\n1,"\xe9', "Line 2 is not UTF-8 (byte 0xe9)"),
        ("a,b\n1,2\n".encode("utf-16"), "The table is UTF-16: convert it with iconv -f utf-16 -t utf-8."),
    ],
)
def test_bytes_that_are_no_text_have_a_place(body: bytes, sentence: str) -> None:
    """A byte that is not UTF-8 is told by its line and column, with what to do."""
    with pytest.raises(ServiceError) as refused:
        list(Records(io.BytesIO(body), SIGNS))

    assert refused.value.message.startswith(sentence)
    assert refused.value.code == "broken_csv"


PIECES = st.lists(
    st.sampled_from(
        [
            b"1,2\n",
            b"3,4\r\n",
            b"\n",
            b'"x\ny",5\n',
            b'6,"7"\n',
            "é,\n".encode(),
            b"\xe9,8\n",
            b"9\r",
            b"a\x1a,b\n",
            b" c, d",
            b'"10","11"\r\n',
            b'"",""\n',
            b'""\n',
            b'"12,","13"\n',
            b'"14""",15\n',
            b'16"17","\n',
            b'"18"19,20\n',
            b',"21',
            b' "22",""23\n',
        ]
    ),
    max_size=8,
)


def by_turns(body: bytes, counts: Sequence[int]) -> list[object]:
    """Return the records, and the refusal at their end, where so many at a time are asked for as plain rows first."""
    found: list[object] = []
    try:
        records = Records(io.BytesIO(body), SIGNS)
        rows = iter(records)
        found += islice(rows, 1)
        for count in cycle(counts):
            plain = records.plain(count) if count else None
            more = plain or next(rows, None)
            if more is None:
                break
            if plain is None:
                found.append(more)
            else:
                assert len(plain.lines) == plain.rows <= count
                found += [(plain.first + place, line.split(",")) for place, line in enumerate(plain.lines)]
    except ServiceError as error:
        found.append(error.message)
    return found


@given(st.sampled_from([b"a,b\n", b"a,b\r\n", b"a,b\r", b"a, b\n"]), PIECES, st.lists(st.integers(0, 4), min_size=1))
@example(b"a,b\r", [b"1,2\n", b"3,4\r\n"], [2])
@example(b"a,b\n", [b"1,2\n", b'"x\ny",5\n', b"1,2\n"], [1])
@example(b"a,b\n", [b"1,2\n", b"a\x1a,b\n", b"\n"], [4, 1])
@example(b"a,b\n", [b"1,2\n", b"\xff,4\n"], [2])
def test_rows_without_a_parser_are_those_of_the_parser(head: bytes, pieces: list[bytes], counts: list[int]) -> None:
    """However many rows are taken as plain lines, all are what the parser alone gives, at the same lines."""
    body = head + b"".join(pieces)

    assert by_turns(body, counts) == by_turns(body, [0])


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_without_quotes_need_no_parser(end: str) -> None:
    """Rows with the usual line ends are taken as they are; a cell that is too long for the parser is left to it."""
    records = Records(io.BytesIO(f"a,b{end}1,2{end}3,é{end}{'x' * 140_000},5".encode()), SIGNS)
    rows = iter(records)
    next(rows)

    assert records.plain(2) == (2, 2, "1,2\n3,é\n".encode())
    assert records.plain(2) is None
    with pytest.raises(ServiceError, match="Line 4 is not CSV"):
        next(rows)


@pytest.mark.parametrize("sign", SIGNS)
def test_quotes_that_change_no_cell_need_no_parser(sign: str) -> None:
    """Cells in quotes are taken without them, where they hold no quote, separator or line end."""
    body = f'a{sign}b\n"1"{sign}"é x"\r\n""{sign}"4"\n5{sign}""\n"7"{sign}"8"'.encode()
    records = Records(io.BytesIO(body), SIGNS)
    next(iter(records))

    plain = records.plain(9)
    assert plain is not None
    assert plain.lines == [f"1{sign}é x", f"{sign}4", f"5{sign}", f"7{sign}8"]


@pytest.mark.parametrize(
    "line", ['1,"2,3"', '"1""",2', '1"2","3', '"1"2,3', ' "1",2', '"1" ,2', '1,"2', '1,"\n"', '1,2"', '"1,"2",3"']
)
def test_other_quotes_are_left_to_the_parser(line: str) -> None:
    """A quote within a cell, or around what separates, ends or is broken, keeps its lines from being taken as they are."""
    records = Records(io.BytesIO(f"a,b\n{line}\n".encode()), SIGNS)
    next(iter(records))

    assert records.plain(9) is None
