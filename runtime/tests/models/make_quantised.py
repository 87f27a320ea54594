"""Other models of the collection, quantised, halved or optimised by ONNX Runtime's own tools.

`MODELS` has for each the model that it is made of and what is done to it. What the calibration sees is drawn as every
other input is.
"""

import pathlib
import tempfile
import warnings

import numpy
import onnx
import onnxruntime
from onnxconverter_common import float16
from onnxruntime import quantization
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType

CALIBRATION = 6


class Drawn(CalibrationDataReader):
    def __init__(self, model):
        random = numpy.random.default_rng(5)
        self.left = [model.draw(model.shapes(1), random) for _ in range(CALIBRATION)]

    def get_next(self):
        return self.left.pop() if self.left else None


def simplified(model, to, level):
    """What ONNX Runtime saves of a model at one of its levels; the quantiser wants constants as initialisers."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level, options.log_severity_level = level, 3
    options.optimized_model_filepath = str(to)
    onnxruntime.InferenceSession(str(model.file), options, providers=["CPUExecutionProvider"])


def static(kind, per_channel=False, weights=QuantType.QInt8, activations=QuantType.QUInt8):
    def make(model, to):
        plain = to.with_name("plain.onnx")
        simplified(model, plain, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC)
        quantization.quantize_static(
            str(plain), str(to), Drawn(model), quant_format=kind, per_channel=per_channel,
            weight_type=weights, activation_type=activations,
        )
    return make


def dynamic(weights=QuantType.QInt8, **options):
    def make(model, to):
        quantization.quantize_dynamic(str(model.file), str(to), weight_type=weights, extra_options=options)
    return make


def half(keep_ports):
    def make(model, to):
        halved = float16.convert_float_to_float16(onnx.load(model.file), keep_io_types=keep_ports)
        onnx.save(halved, to)
    return make


def optimised(model, to):
    """What ONNX Runtime saves at its level "extended": fused operators of its own."""
    simplified(model, to, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED)


QDQ, QOPERATOR = QuantFormat.QDQ, QuantFormat.QOperator
SIGNED = {"weights": QuantType.QInt8, "activations": QuantType.QInt8}
MODELS = {
    "qdq-orientation": ("rapidocr-cls-v2", static(QDQ)),
    "qdq-channels-orientation": ("orientation", static(QDQ, True, **SIGNED)),
    "qdq-resnet18": ("resnet18-script", static(QDQ)),
    "qdq-mobilenet": ("mobilenet-v3-small-script", static(QDQ, True, **SIGNED)),
    "qdq-vit": ("vit-script", static(QDQ)),
    "qoperator-orientation": ("rapidocr-cls-v2", static(QOPERATOR)),
    "qoperator-embedding": ("openwakeword-embedding", static(QOPERATOR)),
    "qoperator-squeezenet": ("squeezenet-script", static(QOPERATOR)),
    "qoperator-shufflenet": ("shufflenet-v2-script", static(QOPERATOR)),
    "qoperator-unet": ("unet-script", static(QOPERATOR)),
    "qoperator-mobile": ("mobile22", static(QOPERATOR)),
    "dynamic-deepcut": ("deepcut", dynamic()),
    "dynamic-attacut": ("attacut-c", dynamic(QuantType.QUInt8)),
    "dynamic-text": ("text-script", dynamic()),
    "dynamic-decoder": ("decoder-script", dynamic(QuantType.QUInt8)),
    "dynamic-lstm": ("lstm-script", dynamic()),
    "dynamic-gru": ("gru-script", dynamic()),
    "dynamic-vit": ("vit-script", dynamic()),
    "half-resnet18": ("resnet18-script", half(False)),
    "half-mobilenet": ("mobilenet-v3-small-script", half(True)),
    "half-decoder": ("decoder-dynamo", half(True)),
    "half-unet": ("unet-script", half(True)),
    "half-squeezenet": ("squeezenet-script", half(True)),
    "half-table": ("table-script", half(False)),
    "optimised-resnet18": ("resnet18-script", optimised),
    "optimised-text": ("text-script", optimised),
    "optimised-vit": ("vit-script", optimised),
    "optimised-decoder": ("decoder-script", optimised),
    "optimised-minilm": ("minilm-int8", optimised),
}


def build(name, model_of):
    base, make = MODELS[name]
    with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        to = pathlib.Path(directory) / "made.onnx"
        make(model_of(base), to)
        return to.read_bytes()
