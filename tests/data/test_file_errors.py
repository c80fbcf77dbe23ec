"""Files that cannot be used: what is said about them."""

import csv
import io

import numpy as np
import pyarrow as pa
import pytest
from refused import NONE, ONE, refused

from flashlogit.data.files.text import holds_dates

DATA_ROWS = (b"1,2,0", b'"1","2","3"', b"1,a,0", b"a,1,1", b"a,2,-1e3")
PATHS = [
    ("gone.csv", ["there is no such file", "relative to"]),
    ("package:sklearn/gone.csv", ["there is no such file"]),
    ("package:nowhere/data.csv", ["there is no package 'nowhere'"]),
    ("d.txt", ["must end in .csv, .csv.gz", ".libsvm"]),
    ("folder.csv", ["a folder without a file that ends in .parquet"]),
    ("~nobodyx/a.csv", ["no such user's folder", "in full"]),
    ("a" * 300 + ".csv", ["cannot be looked at (File name too long)"]),
    ("package:__main__/x.csv", ["there is no package '__main__'"]),
]


@pytest.mark.parametrize(("path", "words"), PATHS)
def test_paths(path, words, load_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.csv").mkdir()
    with refused(*words, setting="data.path"):
        load_file(path)


@pytest.mark.parametrize("name", ["d.csv.gz", "d.parquet", "d.npy", "d.npz"])
def test_files_that_are_empty_or_cut_or_of_another_kind(name, write, load_file, tmp_path, numbers):
    path, (wide, y) = tmp_path / name, numbers
    write(name, {"X": wide, "y": y} if name == "d.npz" else {"a": wide[:, 0], "b": wide[:, 1], "y": y})
    whole = path.read_bytes()
    contents = {"it is empty": b"", "check that it is complete": b"nothing" * 50, "cannot be read": whole[:-200]}
    for word, content in contents.items():
        path.write_bytes(content)
        with refused(word, name):
            load_file(str(path), label={"column": -1 if name == "d.npy" else "y"})


CSV_FILES = [
    (b"a,y\n1,0\n1,2,3\n", ["a row has 3 values", '2 names, "1,2,3"']),
    ("größe,y\n1,0\n".encode("latin-1"), ["data.encoding", "to cp1252"]),
    ("größe;y\n1;0\n".encode("latin-1"), ["data.encoding", "to cp1252"]),
    ("a,y\nß,0\n1,1\n".encode("latin-1"), ["data.encoding", "to cp1252"]),
    ("größe,y\n1,0\n".encode("utf-16"), ["data.encoding", "to utf-16"]),
    (b"a,y\x00\x01,b\n1,0,1\n", ["no text"]),
    (b"  \na,b,y\n1,2,0\n", ["no header line"]),
    (b"a,y\n", ["there are no rows"]),
    *((header + b"\n1,2,0\n", ["looks like a row of data"]) for header in DATA_ROWS),
    (b",,\n1,2,0\n", ["no names"]),
    (b"a;b;y\n1,5;2;0\n", ['one name, "a;b;y"', "commas instead of semicolons", "data.separator"]),
    (b"a\tb\n1\t2,3,4\n", ["instead of tabs", ".tsv", '"\\t"']),
    (b"age,when,y\n1,2020-01-01,0\n2,2020-01-02,1\n", ['dates or times in column "when"', "data.drop"]),
]


@pytest.mark.parametrize(("content", "words"), CSV_FILES)
def test_csv(content, words, load_file, tmp_path):
    (tmp_path / "d.csv").write_bytes(content)
    with refused(*words, setting="d.csv"):
        load_file(str(tmp_path / "d.csv"))


HEADERS = [
    *("0,1,2,y", "y,1,2,3", "y,1990,kind,1991,x", "y,1991,kind,1990,x", "y,400.5,402,1e3", "3,17,42,y", "y,1"),
    *("y,inf,nan", "y,nan,1", 'id,5" pipe,y', '"a,b","c\nd",y', '"a;\n,b",c,y', "\n\na , b,y", "0,1,2"),
]


@pytest.mark.parametrize("header", HEADERS)
def test_the_names_are_those_that_the_file_is_read_by(header, write, load_file):
    names = [name.strip() for name in next(csv.reader(io.StringIO(header.lstrip())))]
    label, rows = "y" if "y" in names else "2", "".join(",".join(i * len(names)) + "\n" for i in "01" * 4)
    data = load_file(write("d.csv", f"{header}\n{rows}"), split=NONE, label={"column": label})
    assert data.feature_names == tuple(name for name in names if name != label)


@pytest.mark.parametrize("name", ["d.csv", "d.parquet"])
@pytest.mark.parametrize("standardize", [True, False])
def test_value_that_is_not_finite(standardize, name, write, load_file):
    for value, word in (("nan", 'column "b" (1 row, first row 17)'), ("-inf", 'row 17 (the first is 1) of column "b"')):
        columns = {"a": np.arange(20.0), "b": [0.5] * 16 + [float(value)] + [0.5] * 3, "y": [0, 1] * 10}
        with refused(word, setting=name):
            load_file(write(name, columns), standardize=standardize)


ODD_NUMBERS = [
    ([*range(20), "?"], ['"?" (3 rows)', 'in data.categorical, list "?" in data.missing_values, or correct']),
    # A third of the rows, but few marks and many numbers.
    ([*range(20), *["?"] * 10, "-"], ['"?" (30 rows), "-" (3 rows)', 'list "?" and "-" in']),
    ([*range(10), "N.a.", "Unknown", "K"], ['in data.categorical, list "N.a." and "Unknown" in']),
    (["K", "PK", *range(1, 13)], ['"K" (3 rows), "PK" (3 rows)', "data.categorical, or correct the file"]),
    ([*range(20), "1,200"], ['numbers as text, such as "1,200"', "as plain numbers", "data.categorical"]),
    (["$3", "$4.50", "-$1,000.25"], ['such as "$3"']),
]


@pytest.mark.parametrize(("values", "words"), ODD_NUMBERS)
def test_numbers_with_something_among_them_are_no_categories(values, words, write, load_file):
    path = write("d.csv", "age,y\n" + "".join(f'"{value}",{i % 2}\n' for i, value in enumerate(values * 3)))
    with refused(*words, setting="d.csv"):
        load_file(path)
    settings = {"categorical": ["age"], "missing": "impute"}  # a blank is none
    assert load_file(path, categories=ONE, split=NONE, **settings).feature_names[0].startswith("age=")


CODES = (
    *(["1", "2", "A"] * 5, ["1.2.3.4", "5.6.7.8"], ["3a", "4b"], ["+", "-"]),
    *(["10.15.12", "10.15.11", "4.12.10"], ["12-34-56", "20-00-00"], ["01.11.20", "62.01.10"]),
    *(["32/01/2024", "01/32/2024"], ["2024-13-01", "2024.1.0"], ["1234.01.01", "4000.01.01"]),
    # Most distinct values are numbers, but few rows have one.
    [*"ABC" * 8, *map(str, range(10))],
)
DATES = (
    *(["01/02/2024", "31/12/2024"], ["31.12.2024", "1.1.24"], ["2024/1/31", "1/31/2024 8:00"]),
    *(["2024-01-03 10:00 PM", "2024-01-03 9:00 AM"], ["01/31/24", "12-31-23", "24-01-31", "3 Jan 24"]),
    *(["2024-01-03T10:00:00Z", "2024-01-03T10:00:00.5+01:00", "03-Jan-2024"], ["08:30", "09:15"]),
)


@pytest.mark.parametrize(("values", "dates"), [*((v, False) for v in CODES), *((v, True) for v in DATES)])
def test_codes_are_categories_and_dates_are_not(values, dates, write, load_file):
    path = write("d.csv", "when,y\n" + "".join(f"{value},{i % 2}\n" for i, value in enumerate(values * 4)))
    if dates:
        with refused('dates or times in column "when"', "derive numbers"):
            load_file(path)
    data = load_file(path, categorical=["when"] if dates else "auto", categories=ONE, split=NONE)
    assert len(data.feature_names) == len(set(values))


def test_dates_with_others_among_them():
    days = [f"{d}.{m}.{y}" for y in range(2000, 2004) for m in range(1, 13) for d in range(1, 29)]
    short, others = [f"{day[:-4]}{day[-2:]}" for day in days], [f"u{i}" for i in range(1000)]
    assert all(holds_dates(pa.chunked_array([values])) for values in (days, [*days, "?"], short))
    # All of them must be dates where the year has two digits.
    assert not any(holds_dates(pa.chunked_array([values])) for values in ([*short, "?"], days + others, others + days))


def test_what_parquet_holds_beside_numbers(write, load_file, tmp_path):
    path = write("d.parquet", {"a": [["u"], ["v"]], "y": [0, 1]})
    with refused('hold no numbers: "a" (list<', setting="d.parquet"):
        load_file(path)
    with refused("there are no rows", setting="e.parquet"):
        load_file(write("e.parquet", {"a": pa.array([], pa.float64()), "y": pa.array([], pa.int64())}))


X, Y = np.zeros((3000, 200)), np.arange(3000) % 2
GAPS = X.copy()
GAPS[2998, 3], GAPS[2999, 0] = np.nan, np.inf
NAMED = [f"x{j}" for j in range(199)]
ARRAYS = [
    (np.zeros(5), ["shape [5] and must be a matrix"]),
    (np.zeros(3, dtype=[("a", "f8")]), ["must be a matrix"]),
    (np.zeros((2, 0)), ["shape [2, 0] and must be"]),
    (np.zeros((0, 2)), ["shape [0, 2] and must be"]),
    (np.zeros((2, 2), dtype=complex), ["type complex128"]),
    (np.array([["a", 1]], dtype=object), ["type object"]),
    ({"x": X}, ['no array "X"', '(did you mean "x"?)', 'it has "y" and "x"']),
    ({"X": X, "y": Y[:3]}, ['array "y"', "shape [3] and must have [3000]"]),
    ({"X": X[0]}, ['array "X"', "must be a matrix"]),
    ({"X": GAPS}, ['row 2999 (the first is 1) of column "x3" is missing']),
    ({"X": X, "feature_names": ["a"]}, ["1 names, and X has 200 columns"]),
    ({"X": X, "feature_names": [*NAMED, "x0"]}, ["feature_names", 'two columns have the name "x0"']),
    ({"X": X, "feature_names": [*NAMED, "y"]}, ['"y", which are arrays too']),
    ({"X": X, "y": np.array([None, *Y[1:]])}, ['array "y"', "cannot be read"]),
]


@pytest.mark.parametrize(("array", "words"), ARRAYS)
def test_arrays(array, words, load_file, tmp_path):
    of_names = isinstance(array, dict)
    path = tmp_path / ("d.npz" if of_names else "d.npy")
    np.savez(path, **{"y": Y} | array) if of_names else np.save(path, array)
    with refused(*words, setting=path.name):
        load_file(str(path), label={"column": "y" if of_names else -1})


def test_archives_that_cannot_be_unpacked(write, load_file, tmp_path):
    path = write("d.csv.zip", "a,b,y\n" + "".join(f"{i},{i * i % 97},{i % 2}\n" for i in range(5000)))
    whole = (tmp_path / "d.csv.zip").read_bytes()
    directory = whole.index(b"PK\x01\x02")  # and what it says stands before the file, too
    for places, byte, word in (
        ((directory + 8, 6), 1, "unpack it and give the file in it"),  # a password
        ((directory + 10, 8), 9, "unpack it and give the file in it"),  # another compression
        ((2000,), whole[2000] ^ 255, "cannot be read"),
    ):
        data = bytearray(whole)
        for place in places:
            data[place] = byte
        (tmp_path / "d.csv.zip").write_bytes(data)
        with refused(word):
            load_file(path)
