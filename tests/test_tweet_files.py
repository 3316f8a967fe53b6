"""Tweets: the same tweets in files of many shapes, and one line for files that are none."""

import csv
import os

import pytest

from datamodules.storage.tweet_files import read_tweets, to_ascii
from datamodules.tweets import Tweets
from tests.data_modules import set_up_data
from tests.errors import refused_in_one_line
from tests.tweets import write_tweets

TEXTS = ["I like it, really", 'she said "no"', "don't", "1, 2, 3", "caf\u00e9", "0", '"quoted"', "a  b ", "?"]
LABELS = [1, 0, 0, 1, 1, 0, 1, 0, 1]


def quote_field(text):
    return '"' + text.replace('"', '""') + '"'


def write_tweet_file(
    path, header="", label_first=False, quoted=True, encoding="utf-8", texts=TEXTS, end="\n"
):
    """The tweets as a file of one of its many shapes."""
    fields = [quote_field(text) if quoted else text for text in texts]
    pairs = zip(LABELS, fields, strict=True)
    lines = [f"{label},{field}" if label_first else f"{field},{label}" for label, field in pairs]
    path.write_bytes("".join(f"{line}{end}" for line in [header, *lines] if line).encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
@pytest.mark.parametrize("label_first", [False, True])
@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_any_shape_of_file_is_the_same_tweets(tmp_path, encoding, label_first, header, end):
    named = ("Label,Tweet" if label_first else "Tweet,Label") if header else ""
    path = write_tweet_file(tmp_path / "train.csv", named, label_first, encoding=encoding, end=end)
    assert read_tweets(path) == (TEXTS, LABELS, [""] * 9)


@pytest.mark.parametrize("label_first", [False, True])
def test_without_quotes_commas_and_quotes_belong_to_the_tweet(tmp_path, label_first):
    texts = ["I like it, really", 'she said "no"', "don't", "1, 2, 3", "caf\u00e9", "0"]
    texts += ['a "b, c"', '"x" and', "?"]
    path = write_tweet_file(tmp_path / "train.csv", label_first=label_first, quoted=False, texts=texts)
    assert read_tweets(path).texts == texts and read_tweets(path).labels == LABELS


def test_an_open_quote_does_not_swallow_the_lines_after_it(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text('0,"he said no\n1,"fine, he said\n0,it is "ok"\n')
    assert read_tweets(path)[:2] == (['"he said no', '"fine, he said', 'it is "ok"'], [0, 1, 0])


def test_a_quoted_tweet_may_go_over_several_lines(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text('text,label\n"two\nlines, and ""more""",1\n"\n\nstarts late",0\none,1\n')
    assert read_tweets(path)[:2] == (['two\nlines, and "more"', "\n\nstarts late", "one"], [1, 0, 1])


@pytest.mark.parametrize("label_first", [False, True])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_tweets_over_several_lines_are_those_of_the_csv_module(tmp_path, label_first, end):
    texts = ["one", 'two\nlines, "really"', "a\n\n\nb", "\nfirst, second", "0\n1", "1", "last\n"]
    rows = [(k % 2, text) if label_first else (text, k % 2) for k, text in enumerate(texts)]
    path = tmp_path / "train.csv"
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator=end).writerows(rows)
    assert read_tweets(path)[:2] == (texts, [k % 2 for k in range(7)])


@pytest.mark.parametrize(
    "tweet", ['"ends in, 1\nand again, 0",1', '0,"opens\n1,and closes"', '"x, 0\n, 1\n\n, 0\ny",1']
)
def test_lines_that_can_be_read_in_two_ways_are_refused(tmp_path, tweet):
    path = tmp_path / "tweets" / "train.csv"
    path.parent.mkdir()
    good = "1,good\n" if tweet[0] == "0" else "good,1\n"
    path.write_text(f"{good}{tweet}\n{good}")
    text = tweets_error(data_dir=tmp_path)
    assert f"{path}, line 2: " in text and "closes in a later line" in text


def test_columns_are_found_by_name_and_others_are_left_out(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text('id,source,label,text\n7,airline,1,"a, b"\n8,vader, 0 ,c, d\n')
    assert read_tweets(path) == (["a, b", "c, d"], [1, 0], ["airline", "vader"])


SENTIMENT140 = """"0","1467810369","Mon Apr 06 22:19:45 PDT 2009","NO_QUERY","_TheSpecial_","@switchfoot - Awww, no, :("
"1","1467810672","Mon Apr 06 22:19:49 PDT 2009","NO_QUERY","scotthamilton","is glad, really"
"0","1467810917","Mon Apr 06 22:19:53 PDT 2009","NO_QUERY","mattycus","@Kenichan I dived"
"""


@pytest.mark.parametrize("table", [
    SENTIMENT140,
    SENTIMENT140.replace('"', ""),  # the commas of the text are more columns
    "".join(f"{k % 2}, {k}, the flight is late\n" for k in range(12)),
    "17,the flight, late,0\n18,thanks,1\n19,great crew,1\n",
    "the flight is late,airline,0\nthanks,vader,1\n",
    "0,2009-04-06,late again\n1,2009-04-07,great, thanks\n",
])  # fmt: skip
def test_a_table_without_a_header_is_refused(tmp_path, table):
    path = tmp_path / "tweets" / "train.csv"
    path.parent.mkdir()
    path.write_text(table)
    text = tweets_error(data_dir=tmp_path)
    assert f"{path}, line 1: " in text and "columns without a header that names them" in text
    assert "a header names the columns: text or tweet, label or sentiment, and source" in text


def test_a_table_with_a_header_is_read_by_its_names(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text(f"sentiment,id,date,query,user,text\n{SENTIMENT140}")
    texts = ["@switchfoot - Awww, no, :(", "is glad, really", "@Kenichan I dived"]
    assert read_tweets(path)[:2] == (texts, [0, 1, 0])


def test_tweets_with_commas_in_every_line_are_no_table(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text("so late, again,0\nthanks, really, all,1\nwell, 1,2,3,1\n")
    assert read_tweets(path)[:2] == (["so late, again", "thanks, really, all", "well, 1,2,3"], [0, 1, 1])
    path.write_text("0,one,two\n1,none\n0,a,b,c\n")
    assert read_tweets(path).texts == ["one,two", "none", "a,b,c"]


@pytest.mark.parametrize("header, says", [
    ("text,tweet,label", "2 columns for the text, text and tweet: keep one of them"),
    ("text,label,sentiment", "2 columns for the label, label and sentiment"),
    ("text,label,Label", "2 columns for the label, label and Label"),
    ("source,text,label,source", "2 columns for the source"),
    ("tweet_text,target", "label 'target'"),
])  # fmt: skip
def test_a_header_that_is_not_understood_is_refused(tmp_path, header, says):
    path = tmp_path / "tweets" / "train.csv"
    path.parent.mkdir()
    path.write_text(f"{header}\na,b,1,0\n")
    text = tweets_error(data_dir=tmp_path)
    assert f"{path}, line 1: " in text and says in text and "a header names the columns" in text


def test_a_table_as_unlabeled_tweets_is_refused(tmp_path):
    write_tweets(tmp_path / "tweets")
    (tmp_path / "tweets" / "unlabeled.txt").write_text("7,so late\n8,thanks, all\n")
    assert "unlabeled.txt looks like a table" in tweets_error(data_dir=tmp_path, train_on="unlabeled")


def test_lines_in_different_encodings_are_read_each_in_its_own(tmp_path):
    path = tmp_path / "train.csv"
    path.write_bytes(
        "caf\u00e9,1\n".encode() + "caf\u00e9,0\n".encode("latin-1") + b"don\x92t,1\nodd \x81,0\n"
    )
    assert read_tweets(path).texts == ["caf\u00e9", "caf\u00e9", "don\u2019t", "odd \ufffd"]


@pytest.mark.parametrize(
    "text, transliterated, dropped",
    [
        ("plain", "plain", "plain"),
        ("caf\u00e9 na\u00efve", "cafe naive", "caf nave"),
        ("don\u2019t \u201cgo\u201d \u2014 now\u2026", 'don\'t "go" - now...', "dont go  now"),
        ("\uff28\uff49 \u00bd \U0001f602 \u65e5\u672c", "Hi 12  ", "   "),
        ("a\0b\ufffd", "ab", "ab"),
    ],
)
def test_other_than_ascii_is_transliterated_or_dropped(text, transliterated, dropped):
    assert to_ascii(text, transliterate=True).decode() == transliterated
    assert to_ascii(text, transliterate=False).decode() == dropped


# --- bad files: one line, with the file, the line, what was found and what was expected


def tweets_error(*args, **options):
    with refused_in_one_line() as error:
        set_up_data(Tweets(*args, **options), training=True).train_dataloader()
    return str(error.value)


WRONG = {  # name: (content of train.csv, line, what the message must say)
    "empty": (b"", 1, "no tweets"),
    "blank": (b"\n  \n", 1, "no tweets"),
    "a header alone": (b"text,label\n", 1, "no tweets"),
    "a third label": (b"text,label\ngood,1\nbad,0\nso so,2\n", 4, "label '2'"),
    "a third label, first": (b"1,good\n0,bad\n4,great\n", 3, "label '4'"),
    "a missing label": (b"good,1\nbad,\n", 2, "label ''"),
    "labels in words": (b"good,positive\nbad,negative\n", 1, "label 'positive'"),
    "no comma": (b"good,1\njust some words\nbad,0\n", 2, "'just some words'"),
    "a field missing": (b"text,label,source\ngood,1,a\nbad,0\n", 3, "'bad,0'"),
    "a third label after a tweet of two lines": (b'"two\nlines",1\ngood,1\nbad,3\n', 4, "label '3'"),
    "a quote that stays open over lines": (b'"two\nlines",1\nb,0\n"open\nfor ever,1\n', 4, "no CSV"),
    "an unknown header": (b"y,x\n1,good\n", 1, "'y'"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_line_that_is_no_tweet_is_refused_with_its_number(tmp_path, wrong):
    content, line, says = WRONG[wrong]
    path = tmp_path / "tweets" / "train.csv"
    path.parent.mkdir()
    path.write_bytes(content)
    text = tweets_error(data_dir=tmp_path)
    assert f"{path}, line {line}: " in text and says in text and "0 or 1" in text, text


def test_a_missing_file_says_its_place_and_how_to_get_it(tmp_path):
    for folder_exists in (False, True):
        if folder_exists:
            (tmp_path / "tweets").mkdir()
        text = tweets_error(data_dir=tmp_path)
        assert f"no train.csv or tweetstrain.csv in {tmp_path / 'tweets'}" in text
        assert "README" in text and "data_dir" in text
    write_tweets(tmp_path / "mine")
    assert "no unlabeled.txt in" in tweets_error("mine", data_dir=tmp_path, train_on="unlabeled")


@pytest.mark.parametrize("what", ["folder", "file"])
def test_no_permission_is_told_in_one_line(tmp_path, monkeypatch, what):
    write_tweets(tmp_path / "tweets")
    locked = tmp_path / "tweets" / ("" if what == "folder" else "train.csv")
    locked.chmod(0)
    if os.access(locked, os.R_OK):  # who runs the tests may read everything

        def denied(*args, **kwargs):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(*{"folder": (os, "listdir"), "file": (type(locked), "read_bytes")}[what], denied)
    text = tweets_error(data_dir=tmp_path)
    locked.chmod(0o755)
    assert str(locked) in text and "Permission denied" in text


def test_a_folder_in_place_of_a_file_and_utf_16_are_refused(tmp_path):
    path = tmp_path / "tweets" / "train.csv"
    path.mkdir(parents=True)
    assert f"{path} cannot be read" in tweets_error(data_dir=tmp_path)
    path.rmdir()
    path.write_text("good,1\n", encoding="utf-16")
    assert f"{path} is UTF-16: save it as UTF-8" in tweets_error(data_dir=tmp_path)
