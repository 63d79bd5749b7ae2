"""What the specifications of operators say that their schemas do not, a table for each question.

The operators are ONNX's (https://onnx.ai/onnx/operators) and onnxruntime's own, of the domain com.microsoft
(its docs/ContribOperators.md). This is the one module of `graphopt` that names the latter. What no table
has is taken for the general case: it may add up, look up rows and limit what it gives. Where the domain is
left out, an operator means the same in each that has it.
"""

from __future__ import annotations

import onnx_ir as ir

__all__ = [
    "ADDING_UP",
    "ATTENTION",
    "ATTENTION_HEADS",
    "BLOCK_EXPERTS",
    "BLOCK_LOOKUP",
    "BLOCK_PRODUCT",
    "CACHED_ATTENTION",
    "CARRYING",
    "CHOOSING",
    "COMPILED",
    "COUNTING",
    "DRAWING",
    "ELEMENTWISE",
    "EXPERTS",
    "FUSED_EXPERTS",
    "FUSED_SILU",
    "FUSED_SUM_NORM",
    "GROUPED_ATTENTION",
    "KERNEL_CHOOSING",
    "LIKE_FIRST",
    "MATRIX_PRODUCTS",
    "MICROSOFT",
    "MIXING",
    "NO_LENGTHS",
    "ONNXRUNTIME",
    "OTHER_ELEMENTWISE",
    "OUTPUT_SIZES",
    "PRODUCTS",
    "PROJECTING_ATTENTION",
    "QUICK_GELU",
    "RECURRENT",
    "ROUNDING",
    "SIZE_INPUTS",
    "STORED_ROUNDED",
    "TABLES",
    "TRANSPOSING_PRODUCT",
    "TURNING_PRODUCTS",
    "WEIGHTED_PRODUCTS",
    "WHOLE_NUMBERS",
]

MICROSOFT = "com.microsoft"
"""The domain of onnxruntime's contrib operators."""

ONNXRUNTIME = ("com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc")
"""The domains of onnxruntime's own."""

COMPILED = "EPContext"
"""What an execution provider compiled, a node in the place of those that it compiled."""

SIZE_INPUTS = {
    "AffineGrid": (1,), "Attention": (6,), "BlackmanWindow": (0,), "CenterCropPad": (1,), "Col2Im": (1, 2),
    "Compress": (1,), "ConstantOfShape": (0,), "CumSum": (1,), "DFT": (1, 2), "Expand": (1,), "GRU": (4,),
    "HammingWindow": (0,), "HannWindow": (0,), "LSTM": (4,), "Loop": (0,), "MaxUnpool": (2,),
    "MelWeightMatrix": (0, 1, 2, 3, 4), "NonMaxSuppression": (2,), "OneHot": (1,), "Pad": (1, 3), "RNN": (4,),
    "Range": (0, 1, 2), "Reshape": (1,), "Resize": (3,), "ReverseSequence": (1,), "STFT": (1, 3),
    "SequenceAt": (1,), "SequenceErase": (1,), "SequenceInsert": (2,), "Slice": (1, 2, 3, 4), "Split": (1,),
    "SplitToSequence": (1,), "Squeeze": (1,), "TensorScatter": (2,), "Tile": (1,), "TopK": (1,),
    "Trilu": (1,), "Unsqueeze": (1,), "Upsample": (1,),
}  # fmt: skip
"""ONNX's operators with inputs that say how large, how many or where: which these are."""

CHOOSING = {"Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND", "GatherBlockQuantized"}
"""The second input chooses places of the first."""

ELEMENTWISE = {
    "Add", "BitShift", "Clip", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max",
    "Min", "Mod", "Mul", "PRelu", "Pow", "QuantizeLinear", "Sub", "Sum", "Where",
}  # fmt: skip
"""Each element of the output is made of one of every input."""

OTHER_ELEMENTWISE = {
    "Abs", "And", "Ceil", "Constant", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "IsInf",
    "IsNaN", "LeakyRelu", "Log", "Mish", "Not", "Or", "Reciprocal", "Relu", "Round", "Sigmoid",
    "Sign", "Softplus", "Sqrt", "Swish", "Tanh",
}  # fmt: skip
"""The same, of one element, of flags or of nothing: no two numbers meet in them."""

CARRYING = {"Cast", "CastLike", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Expand", "Transpose", "Neg"}
"""The numbers of the first input are handed on, as they are or negated."""

MIXING = CARRYING | {
    "Abs", "Add", "Ceil", "Clip", "Concat", "Div", "Floor", "Gather", "Max", "Min", "Mod", "Mul", "Round",
    "Slice", "Split", "Sub", "Tile", "Where",
}  # fmt: skip
"""What sizes and shapes are put together by."""

COUNTING = {"Shape", "Size", "Range", "CumSum", "NonZero", "ArgMax", "ArgMin", "ReduceSum"}
"""The numbers that come out grow with the length of an axis."""

WHOLE_NUMBERS = {
    ir.DataType.BFLOAT16: 257, ir.DataType.FLOAT16: 2049, ir.DataType.INT8: 129, ir.DataType.UINT8: 257,
    ir.DataType.INT16: 32769, ir.DataType.UINT16: 65537,
}  # fmt: skip
"""Types that do not hold every small whole number: the first, or its negative, that they do not."""

ADDING_UP = {
    "Add", "Sub", "Mul", "MatMul", "Gemm", "Conv", "Attention", "LayerNormalization", "RMSNormalization",
    "MatMulNBits", "FusedMatMul", "GroupQueryAttention", "SkipSimplifiedLayerNormalization",
    "SkipLayerNormalization", "InstanceNormalization", "GroupNormalization", "RotaryEmbedding",
}  # fmt: skip
"""The results may be any numbers, as long as the inputs are different values."""

PRODUCTS = {"MatMulNBits", "FusedMatMul", "FusedGemm", "QMoE", "MoE", "MatMulIntegerToFloat"}
"""onnxruntime's that compute with all of a weight, and look nothing up in it."""

NO_LENGTHS = {
    "axis", "to", "num_heads", "kv_num_heads", "q_num_heads", "num_key_value_heads", "K", "N", "bits",
    "block_size", "accuracy_level", "do_rotary", "rotary_interleaved", "group", "hidden_size", "k",
    "rotary_embedding_dim", "gather_axis", "quantize_axis", "expert_weight_bits", "transA", "transB",
}  # fmt: skip
"""Integer attributes of onnxruntime's operators at which nothing happens along an axis of varying length."""

OUTPUT_SIZES = {("com.microsoft", "MatMulNBits"): "N"}
"""The attribute that says how long the last axis of the output is, by domain and operator: with a part of the
weights, cut along that axis, it is as much smaller."""

TRANSPOSING_PRODUCT = ("com.microsoft", "FusedMatMul")
"""MatMul, whose attribute transB says that the second operand lies transposed."""

STORED_ROUNDED = {"DequantizeLinear", "GatherBlockQuantized"}
"""They take weights that are stored in fewer bits, and round nothing themselves."""

ROUNDING = {
    "QuantizeLinear", "DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "QAttention",
    "QGemm", "QMoE", "MatMulInteger", "MatMulIntegerToFloat", "ConvInteger", "MatMulNBits", "MatMulBnb4",
}  # fmt: skip
"""They round activations to fewer bits, or may: so does every QLinear operator."""

DRAWING = {"Sampling", "BiasDropout", "BitmaskDropout", "BitmaskBiasDropout"}
"""onnxruntime's that draw random numbers."""

KERNEL_CHOOSING = {
    "accuracy_level": 0, "activation": "", "activation_type": "", "bits": 4, "block_size": 0, "causal": 1,
    "do_rotary": 0, "expert_weight_bits": 4, "is_causal": 0, "k_quant_type": "NONE", "quant_type": "int",
    "rotary_interleaved": 0, "smooth_softmax": 0, "unidirectional": 0, "v_quant_type": "NONE",
}  # fmt: skip
"""Attributes by which runtimes choose among kernels of one operator, with what is meant where one is left out
(0 of a `block_size`, which may not be)."""

TABLES = {
    ("", "Gather"): ((0,), 1, "axis"),
    ("", "RotaryEmbedding"): ((1, 2), 3, ""),
    ("com.microsoft", "GatherBlockQuantized"): ((0, 2, 3), 1, "gather_axis"),
    ("com.microsoft", "GroupQueryAttention"): ((7, 8), 9, ""),
    ("com.microsoft", "RotaryEmbedding"): ((2, 3), 1, ""),
}
"""Operators that take rows of a table: which inputs are such tables, which one says what rows, and the
attribute that names the axis they are counted along (else the first)."""

ATTENTION = {
    ("", "Attention"): (0, 1),
    ("com.microsoft", "Attention"): (None, 0),
    ("com.microsoft", "GroupQueryAttention"): (None, 0),
    ("com.microsoft", "MultiHeadAttention"): (0, 1),
}
"""Operators of two products, queries with keys and weights with values: the input that holds queries (None:
they are of the first output's size), and the one along whose second to last axis the new keys are."""

PROJECTING_ATTENTION = {("com.microsoft", "Attention"): 1}
"""Attention that first multiplies its first input by a weight: the input that holds this."""

WEIGHTED_PRODUCTS = {
    ("", "Conv"): 1, ("", "ConvInteger"): 1, ("", "QLinearConv"): 3, ("com.microsoft", "FusedConv"): 1,
    ("com.microsoft.nchwc", "Conv"): 1, ("com.ms.internal.nhwc", "Conv"): 1,
    ("com.ms.internal.nhwc", "QLinearConv"): 3, ("com.microsoft", "NhwcFusedConv"): 1,
}  # fmt: skip
"""Convolutions: the input that holds the weight, whose first axis is the output's channels."""

EXPERTS = {("com.microsoft", "MoE"): "k", ("com.microsoft", "QMoE"): "k"}
"""Operators that choose among experts for each row: the attribute that says how many. Inputs from the third
on hold those of every expert, along the first axis."""

MATRIX_PRODUCTS = {
    "MatMul",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "QLinearMatMul",
    "DynamicQuantizeMatMul",
}
"""Products of two operands that lie as they are multiplied."""

TURNING_PRODUCTS = {"Gemm", "FusedMatMul", "FusedGemm", "QGemm"}
"""Products of which the attribute transA says that the first operand lies transposed."""

BLOCK_PARTS = {"MatMulNBits": (1, 2, 3), "GatherBlockQuantized": (0, 2, 3)}
"""Operators that read a weight in blocks of integers: which inputs are its levels, scales and zero points."""

FUSED_SILU, FUSED_SUM_NORM, GROUPED_ATTENTION = (
    "QuickGelu",
    "SkipSimplifiedLayerNormalization",
    "GroupQueryAttention",
)
"""What decoders are lowered to: x * sigmoid(x), the RMS norm of a sum, attention over a cache."""

FUSED_EXPERTS = "MoE"
"""What experts are lowered to: the feed-forwards that are chosen for each row, and their sum."""

BLOCK_PRODUCT, BLOCK_LOOKUP, BLOCK_EXPERTS = "MatMulNBits", "GatherBlockQuantized", "QMoE"
"""The product by a weight in blocks of integers, the lookup of rows of one, and experts of such weights."""

LIKE_FIRST = OTHER_ELEMENTWISE | {
    "BatchNormalization", "BiasGelu", "Cast", "CastLike", "CumSum", "DequantizeLinear", "Dropout", "FastGelu",
    "GroupNormalization", "Identity", "InstanceNormalization", "LayerNormalization", "LogSoftmax", "MoE",
    "Neg", "QMoE", "QuickGelu", "RMSNormalization", "RotaryEmbedding", "ScatterElements", "ScatterND",
    "SimplifiedLayerNormalization", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "Softmax",
    "Trilu",
}  # fmt: skip
"""The result has the shape of the first input."""

ATTENTION_HEADS = {
    ("", "Attention"): ("q_num_heads", "kv_num_heads", 4, "is_causal"),
    ("com.microsoft", "Attention"): ("num_heads", "num_heads", 4, "unidirectional"),
    ("com.microsoft", "GroupQueryAttention"): ("num_heads", "kv_num_heads", 3, ""),
    ("com.microsoft", "MultiHeadAttention"): ("num_heads", "num_heads", 6, "unidirectional"),
}
"""Of attention the attributes that count heads of queries and of keys, the input that holds keys of earlier
calls, and the attribute that says whether no token looks ahead ("": none does)."""

RECURRENT = {"GRU", "LSTM", "Loop", "RNN", "Scan"}
"""What they cost depends on how often they step through what is in them."""

CACHED_ATTENTION = "GroupQueryAttention"
"""onnxruntime's attention over a cache that may be past and present at once."""

SKIP_NORMS = ("SkipSimplifiedLayerNormalization", "SkipLayerNormalization")
"""onnxruntime's sums that are normalized: with RMSNormalization, and with LayerNormalization."""

QUICK_GELU = "QuickGelu"
"""onnxruntime's x * sigmoid(alpha * x)."""
