"""Files of odd shapes, as pandas, spreadsheets and instruments leave them: what is read, and what is said of it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from refused import NONE, features_of, refused

from flashlogit.commands.main import main
from flashlogit.data.files.open import open_files
from flashlogit.data.files.tables import Reading
from flashlogit.data.prediction import read_for_prediction
from flashlogit.data.schema_report import report_text, schema_report

N = 40
A, B, Y = np.arange(N) % 7 + 0.5, np.arange(N) % 5, np.arange(N) % 2
SHUFFLED = np.random.default_rng(0).permutation(3 * N)[:N]
KEPT = {"split": NONE, "standardize": False}
CLEAN = "a,b,y\n" + "".join(f"{a},{b},{y}\n" for a, b, y in zip(A, B, Y, strict=True))


def table(header, *columns):
    return f"{header}\n" + "".join(",".join(map(str, row)) + "\n" for row in zip(*columns, strict=True))


EMPTY = [""] * N
SHAPES = [
    # The file; the columns that are features; words of the note.
    (table(",a,b,y", range(N), A, B, Y), "a b", "column 1 numbers the rows"),
    (table(",a,b,y", SHUFFLED, A, B, Y), "a b", "column 1 numbers the rows"),
    (table("Unnamed: 0,a,b,y", range(7, 7 + N), A, B, Y), "a b", '"Unnamed: 0"'),
    (table(",Unnamed: 0,a,b,y", range(N), SHUFFLED, A, B, Y), "a b", "columns 1, 2 number the rows and are left out"),
    (table("a,b,y,", A, B, Y, EMPTY), "a b", "column 4 has neither a name nor a value"),
    (table("a,b,y,,", A, B, Y, EMPTY, EMPTY), "a b", "columns 4, 5 have neither a name nor a value and are left out"),
    (table("a,b,y,", A, B, Y, B), "a b column_4", 'column 4 has no name and is called "column 4"'),
    (table(",a,b,y", -SHUFFLED, A, B, Y), "column_1 a b", "column 1 has no name"),
    (table(",a,b,y", B, A, B, Y), "column_1 a b", "column 1 has no name"),
    (table("a,b,a,y", A, B, A, Y), "a b", "column 3 has the name and the values of an earlier column"),
    (table("a,b, a,a,y", A, B, B, A, Y), "a b a_(2)", 'of an earlier column and is called "a (2)"'),
]


@pytest.mark.parametrize(("text", "features", "note"), SHAPES)
def test_columns_without_a_name_or_with_one_twice(text, features, note, write, load_file):
    path, names = write("d.csv", text), tuple(each.replace("_", " ") for each in features.split())
    data = load_file(path, **KEPT)
    assert data.feature_names == names
    assert [each for each in data.notes if each.startswith(f"In {path}, ") and note in each]
    chosen = data.train.X[:, [names.index("a"), names.index("b")]].double().numpy()
    np.testing.assert_array_equal(chosen, np.column_stack([A, B]))
    report = schema_report(open_files(path, "FILE"), "y")
    assert [column.name for column in report.columns if column.name != "y"] == list(names)
    assert note in report_text(report)
    # A model of it reads each slice of the same shape, in which a column can be empty, equal to another or a number.
    header, *rows = text.splitlines(keepends=True)
    for i in (0, 1, 6):
        part = read_for_prediction(write("part.csv", header + rows[i]), names)
        assert features_of(part).tolist() == data.train.X[i : i + 1].tolist()
    # And a model of a file without these flaws reads this one, and the other way about.
    assert features_of(read_for_prediction(path, ("b", "a"))).tolist() == np.column_stack([B, A]).tolist()
    if names == ("a", "b"):
        clean = read_for_prediction(write("clean.csv", CLEAN), data.feature_names, encoding=data.encoding)
        assert features_of(clean).tolist() == data.train.X.tolist()


def test_settings_may_name_what_is_left_out_and_what_has_no_name(write, load_file):
    twice = write("twice.csv", table("a,b,a,y", A, B, A, Y))
    for settings, names in (({"drop": ["a"]}, ["b"]), ({"columns": ["b"]}, ["b"]), ({"columns": ["a (2)"]}, ["a (2)"])):
        assert load_file(twice, **KEPT, **settings).feature_names == tuple(names)
    indexed = write("indexed.csv", table(",a,y,", range(N), A, Y, B))
    for drop in ("", "Unnamed: 3", "column 4"):
        assert load_file(indexed, **KEPT, drop=[drop]).feature_names == ("a",)
    data = load_file(indexed, **KEPT, columns=["column 1", "Unnamed: 3"])
    assert data.feature_names == ("column 1", "column 4")
    assert data.train.X.tolist() == [[i, i % 5] for i in range(N)]
    with refused("no such column", setting="data.drop"):
        load_file(indexed, **KEPT, drop=["Unnamed: 2"])


def test_parquet_and_several_files(write, load_file, tmp_path):
    path = str(tmp_path / "d.parquet")
    for second, names in ((A, ("a", "b")), (B + 1, ("a", "b", "a (2)"))):
        columns = [np.arange(N), A, B, second, [None] * N, [[1.0, i] for i in range(N)], Y]
        pq.write_table(pa.table(list(map(pa.array, columns)), names=["Unnamed: 0", "a", "b", "a", "", "v", "y"]), path)
        data = load_file(path, **KEPT)
        assert data.feature_names == (*names, "v_0", "v_1")
        assert data.train.X[:, len(names) - 1].tolist() == (list(B) if second is A else list(second))
        assert len(data.notes) == 3
    parts = [write(f"{i}.csv", table(",a,b,y", range(start, start + N), A, B, Y)) for i, start in ((1, 0), (2, N))]
    data = load_file(parts, **KEPT)
    assert data.feature_names == ("a", "b")
    assert len(data.notes) == 1


ABOVE = [
    (b"", {}),
    (b"\n\r\n", {}),
    (b"\xef\xbb\xbf\n", {}),
    (b"# made by hand, in May\n#\n\n", {}),
    (b"\xef\xbb\xbf# made by hand\n", {}),
]


@pytest.mark.parametrize(("above", "settings"), ABOVE)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_what_stands_above_the_header_line(above, settings, end, load_file, tmp_path):
    (tmp_path / "d.csv").write_bytes(above + CLEAN.replace("\n", end).encode())
    data = load_file(str(tmp_path / "d.csv"), **KEPT, **settings)
    assert (data.feature_names, len(data.train)) == (("a", "b"), N)


def test_a_spreadsheets_separator_line_and_headers_that_begin_with_a_hash(write, load_file):
    semicolons = CLEAN.replace(",", ";").replace(".", ",")
    data = load_file(write("d.csv", f"sep=;\n{semicolons}"), **KEPT, decimal=",")
    assert data.train.X[:, 0].tolist() == A.tolist()
    for header in ("#a,b,y", "# a,b,y"):
        assert load_file(write("d.csv", CLEAN.replace("a,b,y", header)), **KEPT).feature_names == (header[:-4], "b")
    # A header of two lines.
    assert load_file(write("d.csv", CLEAN.replace("a,b", '"a\nb",b')), **KEPT).feature_names == ("a\nb", "b")


ENCODINGS = ["cp1252", "latin-1", "utf-16", "utf-16-le"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encodings(encoding, load_file, tmp_path):
    text = "größe,y\n" + "Süd,1\nNord,0\n" * N
    path, new = tmp_path / "d.csv", tmp_path / "new.csv"
    path.write_bytes(text.encode(encoding))
    data = load_file(str(path), **KEPT, encoding=encoding)
    assert data.feature_names == ("größe=Nord", "größe=Süd")
    # The model remembers it, and takes UTF-8 as well.
    for other in (encoding, "utf-8"):
        new.write_bytes(text.encode(other))
        rows = read_for_prediction(str(new), data.feature_names, encoding=data.encoding)
        assert features_of(rows)[:2].tolist() == [[0, 1], [1, 0]]
    if encoding == "cp1252":
        with refused("is not UTF-8 text", "to cp1252", setting="d.csv"):
            load_file(str(path), **KEPT)
        path.write_bytes(text.encode() + "\u0101,1\n".encode())  # 0x81, which cp1252 has not
        with refused("is not cp1252 text", "data.encoding", setting="d.csv"):
            load_file(str(path), **KEPT, encoding=encoding)


def test_decimal_commas_in_quotes(write, load_file, capsys):
    text = CLEAN.replace(".5,", '_5",').replace("\n", '\n"')[:-1].replace("_", ",")
    path = write("d.csv", text)
    data = load_file(path, **KEPT, decimal=",")
    assert data.train.X.tolist() == np.column_stack([A, B]).tolist()
    # A model of it takes both commas in quotes and points, and one of semicolons takes both too.
    of_semicolons = load_file(
        write("s.csv", CLEAN.replace(",", ";").replace(".", ",")), **KEPT, decimal=",", separator=";"
    )
    for new in (text, CLEAN):
        for model in (data, of_semicolons):
            rows = read_for_prediction(write("new.csv", new), data.feature_names, encoding=model.encoding)
            assert features_of(rows).tolist() == data.train.X.tolist()
    report = schema_report(open_files(path, "FILE", reading := Reading(decimal=",")), None, reading=reading)
    assert report.columns[0].mean == pytest.approx(A.mean())
    assert main(["inspect", path, "--decimal", ",", "--encoding", "cp1252"]) == 0
    assert " number " in capsys.readouterr().out.splitlines()[3]


def test_very_many_columns_without_a_name_or_with_one_name(write):
    D = 5_000
    text = "a," + "," * D + ",".join(["b"] * D) + "\n" + ("1," + "," * D + ",".join(map(str, range(D))) + "\n") * 2
    file = open_files(write("d.csv", text), "FILE")
    assert file.features == ("a", "b", *(f"b ({i})" for i in range(2, D + 1)))
    assert len(file.notes) == 2
