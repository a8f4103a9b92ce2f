"""Packing: from an estimator and a sample to a bundle, the same one each time."""

import getpass
import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import modelyard as my
from modelyard.bundle.layout import open_bundle
from modelyard.bundle.pack import build_bundle
from modelyard.bundle.parity import replay
from modelyard.bundle.runtimes import open_compiled, open_native
from modelyard.errors import BundleRefused, CannotPack, InvalidRequest


def people(rows=300):
    draw = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "age": draw.integers(18, 90, rows),
            "income": np.where(draw.random(rows) < 0.1, np.nan, draw.lognormal(10, 1, rows)),
            "city": draw.choice(["Bern", "Basel", "Zürich"], rows),
            "member": draw.random(rows) > 0.5,
        }
    )
    return table, np.where(table["age"] + 10 * draw.random(rows) > 55, "yes", "no")


def pipeline(encoder=None):
    table, wanted = people()
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    encoder = encoder or OneHotEncoder(handle_unknown="ignore")
    columns = make_column_transformer((numbers, ["age", "income", "member"]), (encoder, ["city"]))
    return make_pipeline(columns, LogisticRegression()).fit(table, wanted), table


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    estimator, table = pipeline()
    said = []
    into = tmp_path_factory.mktemp("packed") / "bundle"
    bundle = build_bundle(
        estimator, sample=table, name="people", into=into, tags={"team": "risk"}, progress=said.append, golden_rows=64
    )
    return bundle, said


def test_a_whole_bundle_comes_out(packed):
    bundle, said = packed
    assert open_bundle(bundle.path, expect_digest=bundle.digest) == bundle
    manifest = bundle.manifest
    assert (manifest.name, manifest.framework, manifest.runtime) == ("people", "sklearn", "onnx")
    assert manifest.tags == {"team": "risk"}
    assert [attempt.outcome for attempt in manifest.attempts] == ["taken"]
    assert {"numpy", "pandas", "scikit-learn", "skops"} <= {each.name for each in manifest.environment.distributions}
    assert set(manifest.environment.threads.values()) == {1}
    assert {"model/model.onnx", "model/native.skops", "profile.json", "environment.txt", "card.md"} <= set(
        manifest.files
    )
    assert "compiling" in said


def test_the_schema_says_what_training_saw_and_what_is_taken(packed):
    schema = packed[0].manifest.schema
    assert [(column.name, column.kind.value, column.nullable) for column in schema.columns] == [
        ("age", "int64", False),
        ("income", "float64", True),
        ("city", "string", True),
        ("member", "bool", False),
    ]
    assert schema.column("city").seen.distinct == 3
    assert schema.output("predict").classes == ("no", "yes")


def test_the_golden_set_holds_sample_and_edges(packed):
    bundle, _ = packed
    golden = bundle.golden()
    assert golden.origins.count("sample") == 64
    assert golden.inputs.rows == bundle.manifest.golden_rows > 64
    refused = {origin for origin, reason in zip(golden.origins, golden.refused, strict=True) if reason}
    assert "edge: income infinite inf" in refused
    assert "edge: income missing" not in refused


@pytest.mark.parametrize("mode", ["single", "batch"])
def test_both_forms_reproduce_it(packed, mode):
    bundle, _ = packed
    manifest = bundle.manifest
    for runtime in (open_compiled(bundle), open_native(bundle, Path(sys.executable))):
        try:
            report = replay(runtime.predict, bundle.golden(), manifest.schema, manifest.tolerance, mode, "in process")
        finally:
            runtime.close()
        assert report.passed, report.reason


def test_profile_and_card(packed):
    bundle, _ = packed
    profile = bundle.profile()
    assert profile["rows"] == 300
    assert set(profile["inputs"]) == {"age", "income", "city", "member"}
    assert "predict_proba[yes]" in profile["outputs"]
    card = (bundle.path / "card.md").read_text()
    assert "# people" in card
    assert "| city | string | taken" in card


def test_nothing_of_this_machine_is_in_it(packed):
    bundle, _ = packed
    private = [
        str(Path.home()),
        str(bundle.path.parent),
        str(Path.cwd()),
        socket.gethostname(),
        "index-url",
        "https://",
    ]
    if len(getpass.getuser()) > 4:
        private.append(getpass.getuser())
    for name in ["manifest.json", *bundle.manifest.files]:
        if name.startswith("script/"):
            continue  # the program itself, as its author wrote it
        raw = (bundle.path / name).read_bytes()
        assert not [word for word in private if word.encode() in raw], name


def test_closed_categories_are_refused_by_name(tmp_path):
    estimator, table = pipeline(OneHotEncoder())
    bundle = build_bundle(estimator, sample=table, name="m", into=tmp_path / "b", golden_rows=16)
    assert bundle.manifest.schema.column("city").accepts.categories == ("Basel", "Bern", "Zürich")
    golden = bundle.golden()
    reason = golden.refused[golden.origins.index("edge: city unseen")]
    assert "expected one of 'Basel', 'Bern', 'Zürich'" in reason


def test_a_runtime_that_is_demanded_is_given_or_an_error(tmp_path):
    estimator, table = pipeline()
    native = build_bundle(estimator, sample=table, name="m", into=tmp_path / "a", runtime="python", golden_rows=8)
    assert (native.manifest.runtime, native.manifest.compiled) == ("python", None)
    assert native.manifest.attempts[0].outcome == "not tried"
    with pytest.raises(CannotPack, match=r"no compiled form reproduces training's answers .*no converter"):
        build_bundle(len_of_city, sample=table, name="m", into=tmp_path / "b", runtime="onnx", golden_rows=8)
    assert not (tmp_path / "b").exists()


def len_of_city(table):
    return table["city"].str.len().fillna(0)


def longer(state, table):
    return table["age"] * state


def read_factor(paths):
    return float(paths["factor"].read_text())


def test_a_function_with_a_load_step_and_files(tmp_path):
    (tmp_path / "factor.txt").write_text("2.5")
    table, _ = people()
    bundle = build_bundle(
        longer,
        sample=table,
        name="m",
        into=tmp_path / "b",
        load=read_factor,
        artifacts={"factor": tmp_path / "factor.txt"},
        golden_rows=8,
    )
    assert any(name.startswith("model/artifacts/factor") for name in bundle.manifest.files)
    runtime = open_native(bundle, Path(sys.executable))
    try:
        golden = bundle.golden()
        report = replay(runtime.predict, golden, bundle.manifest.schema, bundle.manifest.tolerance, "batch", "rebuilt")
    finally:
        runtime.close()
    assert report.passed, report.reason


@pytest.mark.parametrize(
    ("estimator", "sample"),
    [
        (make_pipeline(TfidfVectorizer(), LogisticRegression()), ["to be", "or not", "to be", "not"] * 5),
        (make_pipeline(TfidfVectorizer(), LinearRegression()), pd.Series(["to be", "or not"] * 10, name="review")),
        (KMeans(2, random_state=0), np.arange(40.0).reshape(20, 2)),
        (LogisticRegression(), pd.DataFrame(np.arange(40.0).reshape(20, 2))),
        (StandardScaler(), pd.DataFrame({"a": pd.array([1, 2, None, 4] * 5, dtype="Float64")})),
    ],
)
def test_other_samples(tmp_path, estimator, sample):
    fitted = estimator.fit(sample, np.arange(20) % 2)
    bundle = build_bundle(fitted, sample=sample, name="m", into=tmp_path / "b", golden_rows=8)
    runtime = open_native(bundle, Path(sys.executable))
    try:
        for mode in ("single", "batch"):
            manifest = bundle.manifest
            report = replay(runtime.predict, bundle.golden(), manifest.schema, manifest.tolerance, mode, "rebuilt")
            assert report.passed, report.reason
    finally:
        runtime.close()


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"name": "a b"}, InvalidRequest, "cannot name a model"),
        ({"runtime": "java"}, CannotPack, "there are 'onnx' and 'python'"),
        ({"golden_rows": 0}, CannotPack, "at least one row"),
        ({"tags": {"n": 1}}, CannotPack, "are texts"),
        ({"sample": people()[0].drop(columns="age")}, CannotPack, "age"),
        ({"sample": people()[0].assign(extra=1)}, CannotPack, "extra"),
        ({"estimator": object()}, CannotPack, "nothing knows how to pack"),
        ({"estimator": LogisticRegression()}, CannotPack, "not fitted"),
        ({"artifacts": {"w": "x"}}, CannotPack, "no load step"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path, changed, error, said):
    estimator, table = pipeline()
    given = {"estimator": estimator, "sample": table, "name": "m", "golden_rows": 8, **changed}
    with pytest.raises(error, match=said):
        build_bundle(given.pop("estimator"), into=tmp_path / "b", **given)
    assert list(tmp_path.iterdir()) == []


PROGRAM = """
import sys
from pathlib import Path
import numpy as np, pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from modelyard.bundle.pack import build_bundle

class Halved(BaseEstimator, TransformerMixin):
    def fit(self, X, y=None):
        self.names_ = {"b", "a", "c"}
        return self
    def transform(self, X):
        return np.asarray(X, dtype=float) / 2

def chooser():
    known = {"u", "v", "w"}
    return lambda table: table["a"] * len(known)

X = pd.DataFrame({"a": np.arange(60.0), "b": np.arange(60.0) % 7})
y = np.arange(60) % 2
words = [f"{n} apples {n % 3}" for n in range(60)]
models = {
    "own": (make_pipeline(Halved(), LogisticRegression()).fit(X, y), X),
    "forest": (RandomForestClassifier(3, random_state=0).fit(X, y), X),
    "texts": (make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(words, y), words),
    "function": (lambda table: table["a"] * 2, X),
    "closure": (chooser(), X),
}
for name, (model, sample) in models.items():
    into = Path(sys.argv[1]) / name
    print(name, build_bundle(model, sample=sample, name=name, into=into, golden_rows=16).digest)
"""


def test_the_same_training_gives_the_same_digests_in_every_process(tmp_path):
    program = tmp_path / "train.py"
    program.write_text(PROGRAM)
    printed = []
    for number in ("1", "2"):
        folder = tmp_path / number
        folder.mkdir()
        done = subprocess.run(
            [sys.executable, program, folder],
            env={"PATH": "/usr/bin:/bin", "PYTHONHASHSEED": number, "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout)
    assert printed[0] == printed[1]
    assert printed[0].count("blake3:") == 5
    own = open_bundle(tmp_path / "1" / "own")
    assert own.manifest.native.format == "cloudpickle"
    with pytest.raises(BundleRefused):
        open_bundle(tmp_path / "1" / "own", expect_digest=open_bundle(tmp_path / "1" / "forest").digest)


def test_the_front_door_registers_and_packing_again_changes_nothing(tmp_path):
    estimator, table = pipeline()
    first = my.pack(estimator, sample=table, name="people", golden_rows=16, home=tmp_path)
    again = my.pack(estimator, sample=table, name="people", golden_rows=16, home=tmp_path)
    other = my.pack(estimator, sample=table, name="people", golden_rows=17, home=tmp_path)
    assert (first.number, again.number, other.number) == (1, 1, 2)
    assert first.digest == again.digest == open_bundle(first.path).digest
    with my.load("people@1", home=tmp_path) as loaded:
        assert loaded.predict(table).tolist() == estimator.predict(table).tolist()


def test_the_front_door_names_what_it_has():
    assert {"pack", "load", "Client", "Tolerance", "__version__"} <= set(dir(my))
    with pytest.raises(AttributeError, match="no attribute 'pak'; there are: Client"):
        _ = my.pak
    done = subprocess.run(
        [sys.executable, "-c", "import modelyard, sys, json; print(json.dumps(sorted(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {"numpy", "pandas", "sklearn", "sqlalchemy"} & set(json.loads(done.stdout))
