"""Classical models as their converters write them: scikit-learn by skl2onnx, LightGBM and XGBoost by onnxmltools.

Trained on the data sets that scikit-learn brings along, with default options of converters unless the name says
otherwise: `-plain` leaves the ZipMap out. `MODELS` has them by name.
"""

import warnings

import lightgbm
import numpy
import onnx
import onnxmltools
import pandas
import xgboost
from onnxmltools.convert.common.data_types import FloatTensorType as ToolsFloat
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
from sklearn import (
    calibration, cluster, datasets, decomposition, discriminant_analysis, ensemble, feature_extraction, feature_selection,
    gaussian_process, impute, linear_model, mixture, multiclass, multioutput, naive_bayes, neighbors, neural_network,
    preprocessing, svm, tree,
)
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline, make_union

MODELS = {}
# The newest operator set that skl2onnx 1.20 knows.
OPSET = {"": 21, "ai.onnx.ml": 3}


def iris():
    return datasets.load_iris(return_X_y=True)


def cancer():
    return datasets.load_breast_cancer(return_X_y=True)


def wine_words():
    x, y = datasets.load_wine(return_X_y=True)
    return x, numpy.array(["barolo", "grignolino", "barbera"])[y]


def diabetes():
    return datasets.load_diabetes(return_X_y=True)


def digits():
    x, y = datasets.load_digits(return_X_y=True)
    return x / 16, y


def counts():
    x, y = datasets.load_digits(return_X_y=True)
    return x, y


def add(name, model, data, zipmap=True, opset=OPSET, **options):
    def make():
        x, y = data()
        model.fit(x.astype(numpy.float32), y)
        given = [("X", FloatTensorType([None, x.shape[1]]))]
        chosen = {id(model): options | ({} if zipmap else {"zipmap": False})} if options or not zipmap else None
        return to_onnx(model, initial_types=given, target_opset=opset, options=chosen)

    MODELS[name] = make


add("logistic-iris", linear_model.LogisticRegression(max_iter=500), iris)
add("logistic-cancer-plain", make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression()), cancer, zipmap=False)
add("forest-iris", ensemble.RandomForestClassifier(20, random_state=0), iris)
add("forest-words", ensemble.RandomForestClassifier(20, random_state=0), wine_words)
add("forest-cancer-plain", ensemble.RandomForestClassifier(30, random_state=0), cancer, zipmap=False)
add("extra-trees-digits-plain", ensemble.ExtraTreesClassifier(30, random_state=0), digits, zipmap=False)
add("boosting-cancer", ensemble.GradientBoostingClassifier(n_estimators=30, random_state=0), cancer)
add("hist-boosting-digits-plain", ensemble.HistGradientBoostingClassifier(max_iter=10, random_state=0), digits, zipmap=False)
add("ada-iris", ensemble.AdaBoostClassifier(n_estimators=10, random_state=0), iris)
add("bagging-cancer-plain", ensemble.BaggingClassifier(n_estimators=5, random_state=0), cancer, zipmap=False)
add("voting-iris-plain", ensemble.VotingClassifier(
    [("a", linear_model.LogisticRegression(max_iter=500)), ("b", naive_bayes.GaussianNB())], voting="soft", flatten_transform=False), iris, zipmap=False)
add("stacking-diabetes", ensemble.StackingRegressor(
    [("a", linear_model.Ridge()), ("b", tree.DecisionTreeRegressor(max_depth=4, random_state=0))]), diabetes)
add("tree-regressor", tree.DecisionTreeRegressor(max_depth=6, random_state=0), diabetes)
add("forest-regressor", ensemble.RandomForestRegressor(20, random_state=0), diabetes)
add("boosting-regressor", ensemble.GradientBoostingRegressor(n_estimators=30, random_state=0), diabetes)
add("hist-boosting-regressor", ensemble.HistGradientBoostingRegressor(max_iter=20, random_state=0), diabetes)
add("isolation-forest", ensemble.IsolationForest(n_estimators=20, random_state=0), iris)
add("svc-iris-plain", make_pipeline(preprocessing.StandardScaler(), calibration.CalibratedClassifierCV(svm.SVC(), cv=3)), iris, zipmap=False)
add("svc-cancer", make_pipeline(preprocessing.MinMaxScaler(), svm.SVC(kernel="rbf")), cancer)
add("linear-svc-digits", svm.LinearSVC(random_state=0), digits)
add("svr-diabetes", make_pipeline(preprocessing.RobustScaler(), svm.SVR(C=50)), diabetes)
add("one-class-svm", svm.OneClassSVM(nu=0.2), iris)
add("neighbours-iris", neighbors.KNeighborsClassifier(5), iris)
add("neighbours-regressor", neighbors.KNeighborsRegressor(4, weights="distance"), diabetes)
add("bayes-iris-plain", naive_bayes.GaussianNB(), iris, zipmap=False)
add("multinomial-digits", naive_bayes.MultinomialNB(), counts)
add("bernoulli-digits-plain", naive_bayes.BernoulliNB(binarize=0.4), digits, zipmap=False)
add("network-digits-plain", neural_network.MLPClassifier(hidden_layer_sizes=(32,), max_iter=60, random_state=0), digits, zipmap=False)
add("network-regressor", make_pipeline(preprocessing.StandardScaler(), neural_network.MLPRegressor(hidden_layer_sizes=(16,), max_iter=300, random_state=0)), diabetes)
add("lda-iris", discriminant_analysis.LinearDiscriminantAnalysis(), iris)
add("qda-iris-plain", discriminant_analysis.QuadraticDiscriminantAnalysis(), iris, zipmap=False)
add("sgd-cancer", make_pipeline(preprocessing.StandardScaler(), linear_model.SGDClassifier(loss="log_loss", random_state=0)), cancer)
add("one-against-rest", multiclass.OneVsRestClassifier(linear_model.LogisticRegression(max_iter=500)), iris)
add("ridge-squares", make_pipeline(preprocessing.PolynomialFeatures(2), preprocessing.StandardScaler(), linear_model.Ridge()), diabetes)
add("pca-logistic", make_pipeline(decomposition.PCA(16), linear_model.LogisticRegression(max_iter=500)), digits)
add("union-select-elastic", make_pipeline(
    make_union(preprocessing.MaxAbsScaler(), decomposition.PCA(3)), feature_selection.SelectKBest(feature_selection.f_regression, k=6),
    linear_model.ElasticNet(alpha=0.01)), diabetes)
add("imputed-normalised", make_pipeline(impute.SimpleImputer(), preprocessing.Normalizer(), tree.DecisionTreeClassifier(max_depth=4, random_state=0)), iris)
add("bins-binarised", make_pipeline(preprocessing.KBinsDiscretizer(4, encode="onehot-dense"), linear_model.LogisticRegression(max_iter=500)), iris)
add("k-means", cluster.KMeans(4, n_init=3, random_state=0), iris)
add("mixture", mixture.GaussianMixture(3, random_state=0), iris)
add("gaussian-process", gaussian_process.GaussianProcessRegressor(alpha=0.5), diabetes)
add("poisson-old", linear_model.PoissonRegressor(), diabetes, opset={"": 12, "ai.onnx.ml": 2})
add("forest-old", ensemble.RandomForestClassifier(10, random_state=0), iris, opset={"": 9, "ai.onnx.ml": 1})


def model(make):
    MODELS[make.__name__.replace("_", "-")] = make
    return make


@model
def two_targets():
    x, _ = iris()
    fitted = multioutput.MultiOutputRegressor(ensemble.RandomForestRegressor(8, random_state=0)).fit(x[:, :2], x[:, 2:])
    return to_onnx(fitted, initial_types=[("X", FloatTensorType([None, 2]))], target_opset=OPSET)


def people(count=200):
    """Rows of words and numbers, with gaps."""
    random = numpy.random.RandomState(3)
    city, kind = random.choice(["paris", "oslo", "rome"], count), random.choice(["a", "b"], count)
    age, income = random.randint(18, 80, count), random.randint(1, 90, count)
    return city, kind, age, income, (age + income + 20 * (city == "oslo") > 90).astype(int)


@model
def columns_mixed():
    """One input a column, as of a data frame: text to one-hot, numbers scaled."""
    city, kind, age, income, y = people()
    rows = numpy.empty((len(y), 4), object)
    rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3] = city, kind, age.astype(numpy.float32), income.astype(numpy.float32)
    names = ["city", "kind", "age", "income"]
    frame = pandas.DataFrame({name: rows[:, at] for at, name in enumerate(names)}).astype({"age": "float32", "income": "float32"})
    fitted = make_pipeline(
        ColumnTransformer([
            ("words", preprocessing.OneHotEncoder(handle_unknown="ignore"), ["city", "kind"]),
            ("numbers", preprocessing.StandardScaler(), ["age", "income"]),
        ]),
        linear_model.LogisticRegression(),
    ).fit(frame, y)
    given = [(name, StringTensorType([None, 1])) for name in names[:2]] + [(name, FloatTensorType([None, 1])) for name in names[2:]]
    return to_onnx(fitted, initial_types=given, target_opset=OPSET)


@model
def ordinal_words():
    city, kind, *_ = people()
    fitted = preprocessing.OrdinalEncoder().fit(numpy.stack([city, kind], 1))
    return to_onnx(fitted, initial_types=[("X", StringTensorType([None, 2]))], target_opset=OPSET)


SENTENCES = [
    "the room was clean and the staff kind", "never again the food was cold", "great view great food", "dirty room and rude staff",
    "kind people and a clean bath", "cold rude and dirty", "the view was great", "the bath was cold and the food never came",
]
KINDS = ["good", "bad", "good", "bad", "good", "bad", "good", "bad"]


def text(name, vectoriser, classifier, labels=KINDS):
    def make():
        fitted = make_pipeline(vectoriser, classifier).fit(SENTENCES, labels)
        return to_onnx(fitted, initial_types=[("text", StringTensorType([None, 1]))], target_opset=OPSET)

    MODELS[name] = make


text("text-tfidf-logistic", feature_extraction.text.TfidfVectorizer(), linear_model.LogisticRegression())
text("text-counts-bayes", feature_extraction.text.CountVectorizer(), naive_bayes.MultinomialNB(), [each == "good" for each in KINDS])
text("text-pairs-forest", feature_extraction.text.TfidfVectorizer(ngram_range=(1, 2)), ensemble.RandomForestClassifier(10, random_state=0))


def boosted(name, kind, data, zipmap=True, **options):
    def make():
        x, y = data()
        module, convert = (lightgbm, onnxmltools.convert_lightgbm) if "LGBM" in kind else (xgboost, onnxmltools.convert_xgboost)
        quiet = {"verbose": -1} if module is lightgbm else {}
        fitted = getattr(module, kind)(n_estimators=20, random_state=0, n_jobs=1, **quiet, **options).fit(x.astype(numpy.float32), y)
        more = {"zipmap": zipmap} if module is lightgbm else {}
        return convert(fitted, initial_types=[("X", ToolsFloat([None, x.shape[1]]))], target_opset=15, **more)

    MODELS[name] = make


boosted("lightgbm-cancer", "LGBMClassifier", cancer)
boosted("lightgbm-cancer-plain", "LGBMClassifier", cancer, zipmap=False)
boosted("lightgbm-iris", "LGBMClassifier", iris)
boosted("lightgbm-digits-plain", "LGBMClassifier", digits, zipmap=False)
boosted("lightgbm-regressor", "LGBMRegressor", diabetes)
boosted("lightgbm-dart", "LGBMRegressor", diabetes, boosting_type="dart")
boosted("lightgbm-poisson", "LGBMRegressor", diabetes, objective="poisson")
boosted("lightgbm-forest", "LGBMClassifier", cancer, boosting_type="rf", bagging_freq=1, bagging_fraction=0.8)
boosted("xgboost-cancer", "XGBClassifier", cancer)
boosted("xgboost-iris", "XGBClassifier", iris)
boosted("xgboost-regressor", "XGBRegressor", diabetes, max_depth=4)
boosted("xgboost-poisson", "XGBRegressor", diabetes, objective="count:poisson", max_depth=3)
boosted("xgboost-digits", "XGBClassifier", digits, max_depth=3)
boosted("xgboost-forest", "XGBRFRegressor", diabetes, max_depth=4)


def build(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = MODELS[name]()
    onnx.checker.check_model(made)
    return made
