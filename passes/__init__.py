"""The built-in passes and recipes."""

from __future__ import annotations

from pathlib import Path

from graphopt.plugins import Pack

from .absorb_gains import AbsorbGains
from .cancel_transposes import CancelTransposes
from .cse import CommonSubexpressions
from .dead_code import DeadCode
from .equalize_layers import EqualizeLayers
from .expand_masks import ExpandMasks
from .fold_batch_norm import FoldBatchNorm
from .fold_constants import FoldConstants
from .fold_pads import FoldPads
from .fold_scales import FoldScales
from .fuse_experts import FuseExperts
from .inline_branches import InlineBranches
from .inline_functions import InlineFunctions
from .keep_blocks import KeepBlocks
from .last_token_head import LastTokenHead
from .lower_attention import LowerAttention
from .lower_blocks import LowerBlocks
from .lower_causal_conv import LowerCausalConv
from .lower_functions import LowerFunctions
from .lower_gather_nd import LowerGatherNd
from .lower_linear_attention import LowerLinearAttention
from .lower_mish import LowerMish
from .lower_opset import LowerOpset
from .lower_quick_gelu import LowerQuickGelu
from .lower_skip_norm import LowerSkipNorm
from .merge_heads import MergeHeads
from .merge_parts import MergeParts
from .name_all_axes import NameAllAxes
from .order_heads import OrderHeads
from .pack_dequantized import PackDequantized
from .pack_qkv import PackQkv
from .permute_channels import PermuteChannels
from .plan_bits import PlanBits
from .quantize_dynamic import QuantizeDynamic
from .quantize_experts import QuantizeExperts
from .quantize_kv import QuantizeKv
from .quantize_recurrent import QuantizeRecurrent
from .quantize_static import QuantizeStatic
from .quantize_weights import QuantizeWeights
from .raise_accuracy_level import RaiseAccuracyLevel
from .raise_attention import RaiseAttention
from .raise_clip import RaiseClip
from .raise_gelu import RaiseGelu
from .raise_hard_swish import RaiseHardSwish
from .raise_layer_norm import RaiseLayerNorm
from .raise_mish import RaiseMish
from .raise_rms_norm import RaiseRmsNorm
from .raise_rope import RaiseRope
from .raise_silu import RaiseSilu
from .raise_softplus import RaiseSoftplus
from .raise_split import RaiseSplit
from .refine_head import RefineHead
from .remove_noops import RemoveNoops
from .rotate import Rotate
from .rotate_values import RotateValues
from .round_zeros import RoundZeros
from .rules import RULES
from .scale_channels import ScaleChannels
from .scale_values import ScaleValues
from .shield_forms import ShieldForms
from .shift_activations import ShiftActivations
from .simplify_shapes import SimplifyShapes
from .slice_shapes import SliceShapes
from .smooth_activations import SmoothActivations
from .split_heads import SplitHeads
from .store_fp16 import StoreFp16
from .tie_weights import TieWeights
from .unfold_conv import UnfoldConv
from .unfold_conv_transpose import UnfoldConvTranspose
from .unfuse_attention import UnfuseAttention
from .unroll_loops import UnrollLoops
from .upgrade import Upgrade

PACK = Pack(
    passes=(
        AbsorbGains,
        CancelTransposes,
        CommonSubexpressions,
        DeadCode,
        EqualizeLayers,
        ExpandMasks,
        FoldBatchNorm,
        FoldConstants,
        FoldPads,
        FoldScales,
        FuseExperts,
        InlineBranches,
        InlineFunctions,
        KeepBlocks,
        LastTokenHead,
        LowerAttention,
        LowerBlocks,
        LowerCausalConv,
        LowerFunctions,
        LowerGatherNd,
        LowerLinearAttention,
        LowerMish,
        LowerOpset,
        LowerQuickGelu,
        LowerSkipNorm,
        MergeHeads,
        MergeParts,
        NameAllAxes,
        OrderHeads,
        PackDequantized,
        PackQkv,
        PermuteChannels,
        PlanBits,
        QuantizeDynamic,
        QuantizeExperts,
        QuantizeKv,
        QuantizeRecurrent,
        QuantizeStatic,
        QuantizeWeights,
        RaiseAccuracyLevel,
        RaiseAttention,
        RaiseClip,
        RaiseGelu,
        RaiseHardSwish,
        RaiseLayerNorm,
        RaiseMish,
        RaiseRmsNorm,
        RaiseRope,
        RaiseSilu,
        RaiseSoftplus,
        RaiseSplit,
        RefineHead,
        RemoveNoops,
        Rotate,
        RotateValues,
        RoundZeros,
        ScaleChannels,
        ScaleValues,
        ShieldForms,
        ShiftActivations,
        SimplifyShapes,
        SliceShapes,
        SmoothActivations,
        SplitHeads,
        StoreFp16,
        TieWeights,
        UnfoldConv,
        UnfoldConvTranspose,
        UnfuseAttention,
        UnrollLoops,
        Upgrade,
    ),
    recipes=Path(__file__).parent / "recipes",
    rules=RULES,
)
