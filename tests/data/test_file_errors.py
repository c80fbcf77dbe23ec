"""Files that cannot be used: what is said about them."""

from __future__ import annotations

import gzip
import re

import numpy as np
import pyarrow as pa
import pytest

from flashlogit.data.files.text_kinds import holds_dates
from flashlogit.system.errors import UserError

CSV = "a,b,y\n1,2,0\n3,4,1\n"


def refused(load_file, path, message, **settings):
    with pytest.raises(UserError, match=message) as caught:
        load_file(path, **settings)
    text = str(caught.value)
    assert "\n" not in text
    assert not text.endswith(".")
    return text


@pytest.mark.parametrize("setting", ["path", "validation_path", "test_path"])
def test_missing_file_names_the_setting(setting, write, load_file, tmp_path):
    paths = {"path": write("d.csv", CSV)} | {setting: str(tmp_path / "gone.csv")}
    refused(load_file, message=rf'data\.{setting} is ".*gone\.csv", and there is no such file', **paths)


def test_missing_relative_file_says_what_it_is_relative_to(load_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(load_file, "gone.csv", re.escape(f"relative to {tmp_path}"))


@pytest.mark.parametrize("name", ["d.txt", "d", "csv"])
def test_unknown_ending(name, load_file):
    refused(load_file, name, r'data\.path is ".*"; the name must end in \.csv, \.csv\.gz, .* or \.libsvm')


def test_folder(load_file, tmp_path):
    (tmp_path / "d.csv").mkdir()
    refused(load_file, str(tmp_path / "d.csv"), "a folder without a file that ends in .parquet")


@pytest.mark.parametrize("name", ["d.csv", "d.csv.gz", "d.parquet", "d.npy", "d.npz"])
def test_empty_file(name, load_file, tmp_path):
    (tmp_path / name).touch()
    refused(load_file, str(tmp_path / name), r"data\.path .* is empty")


@pytest.mark.parametrize("name", ["d.csv.gz", "d.parquet", "d.npy", "d.npz"])
def test_file_of_another_kind(name, load_file, tmp_path):
    (tmp_path / name).write_bytes(b"nothing of the sort" * 20)
    refused(load_file, str(tmp_path / name), rf"data\.path .*{name} cannot be read \(.+\); check that")


@pytest.mark.parametrize("name", ["d.csv.gz", "d.parquet", "d.npy", "d.npz"])
def test_truncated_file(name, write, load_file, tmp_path, numbers):
    X, y = numbers
    columns = {"X": X, "y": y} if name == "d.npz" else {"a": X[:, 0], "b": X[:, 1], "y": y}
    path = tmp_path / name
    write(name, columns)
    path.write_bytes(path.read_bytes()[:-200])
    label = {"column": -1 if name == "d.npy" else "y"}
    refused(load_file, str(path), "cannot be read", label=label)


def test_damaged_npz_member(write, load_file, tmp_path):
    write("d.npz", {"y": np.arange(9000) % 2, "X": np.zeros((9000, 2))})
    path = tmp_path / "d.npz"
    data = bytearray(path.read_bytes())
    data[-2000] ^= 0xFF
    path.write_bytes(data)
    refused(load_file, str(path), 'array "X" in .* cannot be read')


def test_archive_called_npy(write, load_file, tmp_path):
    write("d.npz", {"X": np.zeros((5, 2)), "y": np.zeros(5)})
    (tmp_path / "d.npz").rename(tmp_path / "d.npy")
    refused(load_file, str(tmp_path / "d.npy"), "cannot be read")


def test_ragged_csv(write, load_file):
    refused(load_file, write("d.csv", "a,y\n1,0\n1,2,3\n"), "cannot be read .*Expected 2 columns, got 3")


@pytest.mark.parametrize("text", ["größe,y\n1,0\n", "größe;y\n1;0\n", "a,y\nß,0\n1,1\n"])
@pytest.mark.parametrize(("encoding", "iconv"), [("latin-1", "LATIN1"), ("utf-16", "UTF-16")])
def test_csv_that_is_not_utf8(text, encoding, iconv, load_file, tmp_path):
    path = tmp_path / "d.csv"
    path.write_bytes(text.encode(encoding))
    refused(
        load_file, str(path), rf"is not UTF-8 text .* convert it, as in: iconv -f {iconv} -t UTF-8 .*d\.csv >"
    )


def test_bytes_that_are_no_text(load_file, tmp_path):
    (tmp_path / "d.csv").write_bytes(b"a,y\x00\x01,b\n1,0,1\n")
    refused(load_file, str(tmp_path / "d.csv"), "the first line of .* has bytes that are no text; check")


@pytest.mark.parametrize("name", ["d.csv", "d.csv.gz"])
def test_header_only(name, write, load_file):
    for text in ("a,y\n", "a,y"):
        refused(load_file, write(name, text), "has no rows; give a file with at least one row")


def test_no_rows(write, load_file):
    empty = {"a": pa.array([], pa.float64()), "y": pa.array([], pa.int64())}
    refused(load_file, write("d.parquet", empty), "has no rows")
    refused(load_file, write("d.npz", {"X": np.zeros((0, 2)), "y": np.zeros(0)}), 'array "X" .* has 0 rows')
    refused(load_file, write("d.npy", {"a": np.zeros(0), "b": np.zeros(0)}), "0 rows", label={"column": -1})


@pytest.mark.parametrize("header", ["1,2,0", "0.5,-1e3,1", '"1","2","3"'])
def test_csv_without_header(header, write, load_file):
    refused(load_file, write("d.csv", f"{header}\n1,2,0\n"), "only numbers .*add a header line")


@pytest.mark.parametrize("header", ["1,a,0", "5.1,3.5,1.4,0.2,setosa", "a,1,1", "a,2,-1e3"])
def test_csv_whose_first_line_looks_like_data(header, write, load_file):
    row = ",".join("1" for _ in header.split(","))
    refused(load_file, write("d.csv", f"{header}\n{row}\n"), "looks like a row of data; add a header line")


@pytest.mark.parametrize(
    "header",
    [
        *("0,1,2,y", "y,1,2,3", "y,1990,kind,1991,x", "y,1991,kind,1990,x"),
        *("y,400,402,404", "y,400.5,402,1e3", "y,2019,2020,2021", "3,17,42,y", "y,1", "y,inf,nan", "y,nan,1"),
    ],
)
def test_numbers_that_are_names(header, write, load_file):
    names = header.split(",")
    rows = "".join(",".join([str(i % 2)] * len(names)) + "\n" for i in range(8))
    data = load_file(write("d.csv", f"{header}\n{rows}"), split={"validation": 0, "test": 0})
    assert set(data.feature_names) == {*names} - {"y"}


def test_a_data_frame_that_has_no_names(write, load_file):
    path = write("d.csv", "0,1,2\n" + "5,0,0\n6,1,1\n" * 4)
    data = load_file(path, label={"column": 2}, split={"validation": 0, "test": 0})
    assert data.feature_names == ("0", "1")


def test_the_names_are_those_that_the_file_is_read_by(write, load_file):
    rows = "1,2,0\n3,4,1\n" * 4
    for header, names in (
        ('id,5" pipe,y', ("id", '5" pipe')),
        ('"a,b","c\nd",y', ("a,b", "c\nd")),
        ('"a;\n,b",c,y', ("a;\n,b", "c")),
        ("\n\na , b,y", ("a", "b")),
    ):
        path = write("d.csv", f"{header}\n{rows}")
        assert load_file(path, split={"validation": 0, "test": 0}).feature_names == names
    refused(load_file, write("d.csv", f"  \na,b,y\n{rows}"), "has no header line; give a file with the col")


def test_csv_with_empty_name(write, load_file):
    refused(load_file, write("d.csv", ",a,y\n0,1,0\n"), "empty name for column 1; .*index=False")
    refused(load_file, write("d.csv", "a, ,y\n0,1,0\n"), "empty name for column 2")


@pytest.mark.parametrize("name", ["d.csv", "d.parquet"])
def test_duplicate_names(name, write, load_file):
    columns = "a,a,y\n1,2,0\n" if name == "d.csv" else None
    if columns is None:
        import pyarrow.parquet as pq

        path = write(name, {"a": [1]})
        pq.write_table(pa.table([[1], [2], [0]], names=["a", "a", "y"]), path)
    else:
        path = write(name, columns)
    refused(load_file, path, 'two columns of the name "a"; rename')


def test_csv_with_semicolons(write, load_file):
    for text in ("a;b;y\n1;2;0\n", "a;b;y\n1,5;2;0\n2,5;1,5;1\n"):
        message = 'is one name, "a;b;y"; separate the columns with commas instead of semicolons, or set data.separator'
        refused(load_file, write("d.csv", text), message)
    refused(
        load_file,
        write("d.csv", "a\tb\n1\t2,3,4\n"),
        r"instead of tabs, end the file's name in \.tsv, or set",
    )


@pytest.mark.parametrize("name", ["d.csv", "d.csv.gz", "d.parquet"])
@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), -float("inf")])
def test_value_that_is_not_finite(value, name, write, load_file):
    columns = {"a": np.arange(20.0), "b": [0.5] * 16 + [value] + [0.5] * 3, "y": [0, 1] * 10}
    infinite = value in (float("inf"), -float("inf"))
    what = (
        r'infinite in row 17 .* of column "b"'
        if infinite
        else r'empty or NaN\) in column "b" \(1 row, first row 17\)'
    )
    for standardize in (True, False):
        refused(
            load_file,
            write(name, columns),
            what,
            standardize=standardize,
        )


@pytest.mark.parametrize("name", ["d.npy", "d.npz"])
def test_value_that_is_not_finite_in_numpy_files(name, write, load_file):
    X, y = np.ones((3000, 200)), np.arange(3000) % 2
    X[2998, 3] = np.nan
    X[2999, 0] = np.inf
    label = {"column": -1 if name == "d.npy" else "y"}
    refused(load_file, write(name, {"X": X, "y": y}), r'missing .* row 2999 .* column "x3"', label=label)


def test_all_columns_that_lack_values_are_named(write, load_file):
    columns = {"a": [1.0, 2.0, None], "b": [1.0, None, None], "y": [0, 1, 0]}
    path = write("d.csv", columns)
    message = refused(load_file, path, "set data.missing to impute", split={"validation": 0, "test": 0})
    assert '"a" (1 row, first row 3), "b" (2 rows, first row 2)' in message


def test_wholly_empty_column(write, load_file):
    path = write("d.csv", "a,b,y\n1,,0\n2,,1\n1,,0\n2,,1\n")
    none = {"validation": 0, "test": 0}
    refused(load_file, path, 'column "b" \\(4 rows, first row 1', split=none)
    refused(load_file, path, 'no value of column "b" in any training row', split=none, missing="impute")


def test_dates_among_features(write, load_file):
    path = write("d.csv", "age,when,y\n1,2020-01-01,0\n2,2020-01-02,1\n")
    refused(load_file, path, 'dates or times in column "when"; derive numbers .* data.drop')


MARKED = "looks like numbers but for "
REMEDY = "name the column in data.categorical, "


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            [*range(20), "?"],
            f'{MARKED}"?" (3 rows): {REMEDY}list "?" in data.missing_values, or correct the file',
        ),
        # A third of the rows, but few marks and many numbers.
        (
            [*range(20), *["?"] * 10, "-"],
            f'{MARKED}"?" (30 rows) and "-" (3 rows): {REMEDY}list "?" and "-" in',
        ),
        ([*range(10), "."], f'{MARKED}"." (3 rows): {REMEDY}list "." in data'),
        ([*range(10), " "], f'{MARKED}" " (3 rows): {REMEDY}list " " in data'),
        ([*range(10), "N.a.", "Unknown"], f'{REMEDY}list "N.a." and "Unknown" in data'),
        ([*range(10), "K", "?"], f'{REMEDY}list "?" in data.missing_values, or correct'),
        (["K", "PK", *range(1, 13)], f'"K" (3 rows) and "PK" (3 rows): {REMEDY.strip()} or correct the file'),
        (
            [*range(20), "1,200"],
            'column "age" holds numbers as text, such as "1,200": write it as plain numbers',
        ),
        (["3,5", "4,5"], 'holds numbers as text, such as "3,5"'),
        (["$3", "$4.50", "-$1,000.25"], 'holds numbers as text, such as "$3"'),
        (["3%", "12.5 %"], 'holds numbers as text, such as "3%"'),
    ],
)
def test_numbers_with_something_among_them_are_no_categories(values, message, write, load_file):
    rows = "".join(f'"{value}",{i % 2}\n' for i, value in enumerate([*values, *values, *values]))
    told = refused(load_file, write("d.csv", "age,y\n" + rows), re.escape(message))
    assert told.endswith(("name the column in data.categorical", "or correct the file"))
    settings = {
        "categorical": ["age"],
        "categories": {"min_rows": 1},
        "missing": "impute",  # a blank is none
        "split": {"validation": 0, "test": 0},
    }
    assert load_file(write("d.csv", "age,y\n" + rows), **settings).feature_names[0].startswith("age=")


@pytest.mark.parametrize(
    "values",
    [
        ["1", "2", "A"] * 5,
        ["1.2.3.4", "5.6.7.8"],
        *(["10.15.12", "10.15.11", "4.12.10"], ["12-34-56", "20-00-00"], ["01.11.20", "62.01.10"]),
        *(["32/01/2024", "01/32/2024"], ["2024-13-01", "2024.1.0"], ["1234.01.01", "4000.01.01"]),
        ["3a", "4b"],
        ["+", "-"],
        # Most distinct values are numbers, but few rows have one.
        [*"ABC" * 8, *map(str, range(10))],
    ],
)
def test_codes_are_categories(values, write, load_file):
    rows = "".join(f"{value},{i % 2}\n" for i, value in enumerate(values * 2))
    path = write("d.csv", "code,y\n" + rows)
    data = load_file(path, categories={"min_rows": 1}, split={"validation": 0, "test": 0})
    assert len(data.feature_names) == len(set(values))


@pytest.mark.parametrize(
    "values",
    [
        ["01/02/2024", "31/12/2024"],
        ["31.12.2024", "1.1.24"],
        ["2024-01-03 10:00 PM", "2024-01-03 9:00 AM"],
        ["01/31/24", "12-31-23", "24-01-31", "3 Jan 24"],
        ["2024/1/31", "1/31/2024 8:00"],
        ["2024-01-03T10:00:00Z", "2024-01-03T10:00:00.5+01:00", "03-Jan-2024"],
    ],
)
def test_dates_that_are_not_iso(values, write, load_file):
    rows = "".join(f"{value},{i % 2}\n" for i, value in enumerate(values * 12))
    path = write("d.csv", "when,y\n" + rows)
    refused(load_file, path, 'dates or times in column "when"; derive numbers')
    data = load_file(path, categorical=["when"], split={"validation": 0, "test": 0})
    assert len(data.feature_names) == len(values)


def test_dates_with_a_few_others_are_dates_if_the_year_is_whole(write, load_file):
    def file(year):
        days = [f"{day}.{month}.{year}" for day in range(1, 29) for month in range(1, 13)]
        return write("d.csv", "when,y\n" + "".join(f"{day},{i % 2}\n" for i, day in enumerate([*days, "?"])))

    settings = {"categories": {"min_rows": 1}, "split": {"validation": 0, "test": 0}}
    refused(load_file, file("2024"), "dates or times")
    assert load_file(file("24"), **settings).encoding is not None


def test_more_values_than_are_looked_at_first():
    days = [
        f"{day}.{month}.{year}"
        for year in range(2000, 2010)
        for month in range(1, 13)
        for day in range(1, 29)
    ]
    assert holds_dates(pa.chunked_array([days]))
    assert not holds_dates(pa.chunked_array([days[:1500] + [f"u{i}" for i in range(1500)]]))
    assert not holds_dates(pa.chunked_array([[f"u{i}" for i in range(1500)] + days]))


def test_times_may_be_categories(write, load_file):
    path = write("d.csv", "when,y\n" + "08:30,0\n09:15,1\n" * 12)
    refused(load_file, path, "leave the column out with data.drop, or name the column in data.categorical")
    data = load_file(path, categorical=["when"], split={"validation": 0, "test": 0})
    assert data.feature_names == ("when=08:30", "when=09:15")


def test_lists_and_numbers_as_text_among_features(write, load_file):
    columns = {"a": [[1], [2]], "b": ["1", "2"], "y": [0, 1]} | {f"t{j}": ["u", "v"] for j in range(9)}
    path = write("d.parquet", columns)
    assert '"a" (list<' in refused(load_file, path, "hold no numbers")
    refused(load_file, path, 'column "b" holds numbers as text, such as "1"', drop=["a"])
    message = refused(load_file, path, "hold no numbers", categorical=["b"], drop=["a"])
    assert " and 1 more; turn" in message


def test_npy_shapes_and_types(load_file, tmp_path):
    path = tmp_path / "d.npy"
    for array, message in [
        (np.zeros(5), r"has shape \[5\] .*must be a matrix"),
        (np.zeros((2, 2, 2)), "must be a matrix"),
        (np.zeros(3, dtype=[("a", "f8")]), "must be a matrix"),
        (np.array([["a", "b"]]), "holds values of type <U1"),
        (np.zeros((2, 2), dtype=complex), "holds values of type complex128"),
        (np.array([["a", 1]], dtype=object), "holds values of type object"),
        (np.zeros((2, 0)), "has 2 rows and 0 columns"),
    ]:
        np.save(path, array)
        refused(load_file, str(path), message, label={"column": -1})


def test_npz_arrays(write, load_file):
    X, y = np.zeros((4, 2)), np.array([0, 1, 0, 1])
    for arrays, message in [
        ({"x": X, "y": y}, r'no array "X" .*\(did you mean "x"\?\); it has "x" and "y"'),
        ({"X": X, "y": y[:3]}, r'array "y" .* has shape \[3\], and X has 4 rows; it must have shape \[4\]'),
        ({"X": X, "y": np.zeros((4, 2))}, r'"y" .* has shape \[4, 2\]'),
        ({"X": X[0], "y": y}, "must be a matrix"),
        ({"X": X.astype(str), "y": y}, "holds values of type <U"),
        ({"X": X, "y": y, "feature_names": np.array(["a"])}, "has 1 names and X has 2 columns"),
        ({"X": X, "y": y, "feature_names": np.array(["a", "a"])}, '"a" more than once'),
        ({"X": X, "y": y, "feature_names": np.array(["a", "y"])}, 'uses "y" for a column of X and'),
        ({"X": X, "y": np.array(["a", 1, None, 2], dtype=object)}, 'array "y" in .* cannot be read'),
    ]:
        refused(load_file, write("d.npz", arrays), message)


def test_unreadable_gzip_says_so(load_file, tmp_path):
    path = tmp_path / "d.csv.gz"
    path.write_bytes(gzip.compress(b"a,y\n" + b"1,0\n" * 10_000)[:-30])
    refused(load_file, str(path), "cannot be read")


def test_archives_that_cannot_be_unpacked(load_file, tmp_path):
    import zipfile

    plain = tmp_path / "plain.csv.zip"
    with zipfile.ZipFile(plain, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("d.csv", "a,b,y\n" + "".join(f"{i},{i * i % 97},{i % 2}\n" for i in range(5000)))
    data = plain.read_bytes()
    directory = data.index(b"PK\x01\x02")
    for name, changes, message in [
        ("locked", {6: 1, directory + 8: 1}, r"password required .*; unpack it and give the file in it"),
        ("deflate64", {8: 9, directory + 10: 9}, r"compression .*; unpack it and give the file in it"),
        ("damaged", {2000: data[2000] ^ 0xFF}, r"cannot be read"),
        ("cut", {}, r"cannot be read"),
    ]:
        changed = bytearray(data)
        for place, byte in changes.items():
            changed[place] = byte
        path = tmp_path / f"{name}.csv.zip"
        path.write_bytes(changed[:2000] if name == "cut" else changed)
        refused(load_file, str(path), message)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("~nobodyx/a.csv", "there is no such user's folder; write the path in full"),
        ("a" * 300 + ".csv", r"which cannot be looked at \(File name too long\)"),
        ("package:__main__/x.csv", "there is no package '__main__'"),
    ],
)
def test_paths_that_the_system_refuses(path, message, load_file):
    refused(load_file, path, message)
