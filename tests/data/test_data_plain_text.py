"""Documents: which files are read, which are refused, and how they are split."""

import pytest
from draws import draws
from hypothesis import given
from hypothesis import strategies as st

from simplex_jax import data


def put(folder, **files):
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def refusal(folder):
    with pytest.raises((ValueError, OSError)) as error:
        data.read_documents(folder)
    return str(error.value)


def test_texts_are_read_by_name_from_folders_too(tmp_path):
    put(
        tmp_path,
        b_txt="second",
        a_md="first",
        sub__c_TXT=b"\xef\xbb\xbfone\r\ntwo\rthree",
        d_py="not a text",
        blank_txt=" \n",
        _git__e_md="hidden",
        sub___f_txt="hidden",
    )
    found = data.read_documents(tmp_path)
    assert [(d.name, d.text) for d in found] == [
        ("a.md", "first"),
        ("b.txt", "second"),
        ("sub/c.TXT", "one\ntwo\nthree"),
    ]
    assert found[0].size_bytes == 5
    assert data.Document("x", "ü").size_bytes == 2


def test_what_is_no_text_is_refused_by_name(tmp_path):
    assert "holds no text" in refusal(tmp_path)
    assert "is not there" in refusal(tmp_path / "absent")
    put(tmp_path, good_txt="text")
    assert "is a file" in refusal(tmp_path / "good.txt")
    latin = put(tmp_path / "latin", a_txt="größer".encode("latin-1"))
    assert "a.txt is not UTF-8 from byte 2 on" in refusal(latin)
    binary = put(tmp_path / "binary", a_md=b"PK\x00\x01")
    assert "a.md holds NUL bytes" in refusal(binary)


def test_the_first_of_equal_texts_is_kept():
    named = [data.Document(n, t) for n, t in (("a", "x"), ("b", "y"), ("c", "x"))]
    assert data.distinct_documents(named) == named[:2]


@draws()
@given(st.sets(st.text(min_size=1), min_size=2), st.floats(0.05, 0.95), st.integers())
def test_a_document_stays_on_its_side_whatever_it_is_called(texts, share, seed):
    documents = [data.Document(str(i), text) for i, text in enumerate(texts)]
    train, heldout = data.split_documents(documents, share, seed=seed)
    assert train and heldout
    assert sorted(map(id, train + heldout)) == sorted(map(id, documents))
    renamed = [data.Document(f"other {d.name}", d.text) for d in documents]
    again, _ = data.split_documents(renamed[::-1], share, seed=seed)
    assert {d.text for d in again} == {d.text for d in train}


def test_the_share_is_met_and_one_text_cannot_be_split():
    many = [data.Document(str(i), f"text {i}") for i in range(2000)]
    assert 160 < len(data.split_documents(many, 0.1)[1]) < 240
    assert data.split_documents(many, 0.1) != data.split_documents(many, 0.1, seed=1)
    with pytest.raises(ValueError, match="1 distinct texts"):
        data.split_documents(many[:1] * 2, 0.1)
    with pytest.raises(ValueError, match="fraction is 1"):
        data.split_documents(many, 1.0)
