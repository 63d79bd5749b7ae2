"""Recurrent layers in a form that one graph can have: the same at any length, with a past and without.

transformers computes them in blocks in a Python loop, or token by token in another, and chooses by
length: a trace would hold the loop of one length. Here the recurrence is torch's `scan`, ONNX's Scan, which
is what all of those compute. What is replaced is found by the name that transformers' modelling files share.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["any_length", "keeps_one_more", "restarts"]

Form = Callable[..., Any]


@contextlib.contextmanager
def any_length(model: Any) -> Iterator[None]:
    """Inside, `model`'s recurrent layers take any number of tokens and go on from their cache's state."""
    from transformers.cache_utils import Cache, LinearAttentionLayer

    seen: dict[str, Any] = {}
    original = Cache.get_recurrent_state

    def get_recurrent_state(self: Any, layer_idx: int, state_idx: int = 0) -> Any:
        seen["state"], seen["heads"] = original(self, layer_idx, state_idx), 0
        return seen["state"]

    with contextlib.ExitStack() as stack:
        for module in _modules(model):
            for name, form in _FORMS.items():
                if hasattr(module, name):
                    stack.enter_context(_replaced(module, name, form(module, seen)))
        stack.enter_context(_replaced(Cache, "get_recurrent_state", get_recurrent_state))
        stack.enter_context(_replaced(LinearAttentionLayer, "update_conv_state", _update_conv_state))
        stack.enter_context(
            _replaced(LinearAttentionLayer, "update_recurrent_state", _update_recurrent_state)
        )
        yield


def restarts(model: Any) -> bool:
    """Whether transformers forgets the recurrent state where several tokens follow a past (Mamba's first)."""
    return any(hasattr(module, "mamba_selective_scan") for module in _modules(model))


def keeps_one_more(model: Any) -> bool:
    """Whether transformers keeps one place more of a convolution's past than its kernel reads."""
    return any(hasattr(module, "causal_conv1d_fn") for module in _modules(model))


def _modules(model: Any) -> list[Any]:
    """The modelling files of `model` and its parts."""
    return [sys.modules[name] for name in sorted({type(m).__module__ for m in model.modules()})]


@contextlib.contextmanager
def _replaced(holder: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(holder, name)
    setattr(holder, name, value)
    try:
        yield
    finally:
        setattr(holder, name, before)


def _update_conv_state(self: Any, conv_states: Any, state_idx: int = 0, **options: Any) -> Any:
    """Past inputs and new ones; keeps as many as it held, and writes to no tensor that it was given."""
    import torch

    held = self.conv_states[state_idx]
    if held is None:
        kernel = options.get("conv_kernel_size")
        size = conv_states.shape[-1] if kernel is None else kernel - 1
        held = conv_states.new_zeros((*conv_states.shape[:-1], size))
        self.is_conv_states_initialized[state_idx] = True
        self.has_previous_state[state_idx] = True
    whole = torch.cat([held, conv_states], dim=-1)
    self.conv_states[state_idx] = whole[..., -held.shape[-1] :]
    return whole


def _update_recurrent_state(self: Any, recurrent_states: Any, state_idx: int = 0, **_: Any) -> Any:
    self.is_recurrent_states_initialized[state_idx] = True
    self.recurrent_states[state_idx] = recurrent_states
    return recurrent_states


def _padding_mask(module: Any, seen: dict[str, Any]) -> Form:
    def mask(
        config: Any, inputs_embeds: Any, attention_mask: Any, past_key_values: Any = None, **_: Any
    ) -> Any:
        if attention_mask is None:
            return None
        seen["past"] = attention_mask.shape[1] - inputs_embeds.shape[1]
        return _latest(attention_mask, inputs_embeds.shape[1])

    return mask


def _without_padding(module: Any, seen: Any) -> Form:
    def masked(hidden_states: Any, attention_mask: Any) -> Any:
        """hidden_states [B, S, ...] times the mask of its places, the latest of [B, total]."""
        if attention_mask is None:
            return hidden_states
        return hidden_states * _latest(attention_mask, hidden_states.shape[1])[:, :, None]

    return masked


def _latest(mask: Any, length: int) -> Any:
    return mask.narrow(1, mask.shape[1] - length, length)


def _convolution(module: Any, seen: Any) -> Form:
    def convolve(hidden_states: Any, weight: Any, bias: Any = None, activation: Any = None, **_: Any) -> Any:
        """Of past and new inputs, as many results as there are new inputs."""
        import torch
        from transformers.activations import ACT2FN

        made = torch.nn.functional.conv1d(
            hidden_states, weight.unsqueeze(1), bias, groups=hidden_states.shape[1]
        )
        return made if activation is None else ACT2FN[activation](made)

    return convolve


def _delta_rule(module: Any, seen: Any) -> Form:
    def attend(
        query: Any,
        key: Any,
        value: Any,
        g: Any,
        beta: Any,
        initial_state: Any = None,
        use_qk_l2norm_in_kernel: bool = False,
        **_: Any,
    ) -> tuple[Any, Any]:
        """query, key [B, S, heads, K], value [B, S, heads, V], g (log of the decay) [B, S, heads] or [.., K],
        beta [B, S, heads]; fewer heads of queries and keys serve several of values."""
        if use_qk_l2norm_in_kernel:
            query, key = module.l2norm(query), module.l2norm(key)
        query = query * query.shape[-1] ** -0.5
        query, key = (_repeated(x, value.shape[2]) for x in (query, key))
        return _attend(query, key, value, g, initial_state, beta)

    return attend


def _state_space(module: Any, seen: dict[str, Any]) -> Form:
    def attend(
        hidden_states: Any,
        dt: Any,
        A: Any,
        B: Any,
        C: Any,
        chunk_size: int,
        D: Any = None,
        dt_bias: Any = None,
        initial_states: Any = None,
        dt_softplus: bool = False,
        dt_limit: tuple[float, float] = (0.0, float("inf")),
        return_final_states: bool = False,
        **_: Any,
    ) -> Any:
        """Mamba 2: hidden_states [B, S, heads, P], dt [B, S, heads], B and C [B, S, groups, N].

        Limits of dt do not hold for one token after a past: in transformers its form, and the kernel of
        mamba_ssm that it stands for, have none.
        """
        import torch

        heads = hidden_states.shape[2]
        dt = dt if dt_bias is None else dt + dt_bias
        dt = torch.nn.functional.softplus(dt) if dt_softplus else dt
        if tuple(dt_limit) != (0.0, float("inf")):
            new, past = (torch.full((), n, device=dt.device) for n in (dt.shape[1], seen["past"]))
            dt = torch.where((new == 1) & (past > 0), dt, torch.clamp(dt, *dt_limit))
        state = None if initial_states is None else initial_states.transpose(2, 3)
        key, query = _repeated(B, heads), _repeated(C, heads)
        made, state = _attend(query, key, hidden_states * dt[..., None], A * dt, state)
        made = made if D is None else made + hidden_states * D[:, None]
        return (made, state.transpose(2, 3)) if return_final_states else made

    return attend


def _selective_scan(module: Any, seen: dict[str, Any]) -> Form:
    def scan(
        hidden_states: Any,
        dt: Any,
        A: Any,
        B: Any,
        C: Any,
        D: Any = None,
        z: Any = None,
        delta_bias: Any = None,
        delta_softplus: bool = False,
        return_last_state: bool = False,
        **_: Any,
    ) -> Any:
        """Mamba: hidden_states, dt, z [B, channels, S], A [channels, N], B and C [B, N, S].

        Its state is the one the cache gave last: transformers does not pass it on. Of one with heads, as
        Zamba's, a call for each.
        """
        import torch

        dt = dt if delta_bias is None else dt + delta_bias[..., None]
        dt = torch.nn.functional.softplus(dt) if delta_softplus else dt
        state = seen.get("state")
        if state is not None and state.ndim > hidden_states.ndim:
            state, seen["heads"] = state[:, seen["heads"]], seen["heads"] + 1
        if state is None:
            state = hidden_states.new_zeros((*hidden_states.shape[:2], A.shape[-1]))

        def step(state: Any, now: Any) -> tuple[Any, Any]:
            dt, x, b, c = now
            state = state * torch.exp(dt[..., None] * A) + (dt * x)[..., None] * b[:, None, :]
            return state, (state * c[:, None, :]).sum(-1)

        state, made = _scan(step, state, [x.permute(2, 0, 1) for x in (dt, hidden_states, B, C)])
        made = made.permute(1, 2, 0)
        made = made if D is None else made + hidden_states * D[:, None]
        made = made if z is None else made * torch.nn.functional.silu(z)
        return (made, state) if return_last_state else made

    return scan


def _repeated(x: Any, heads: int) -> Any:
    """[B, S, groups, size] to [B, S, heads, size], each group for `heads` / groups of them in a row."""
    return x if x.shape[2] == heads else x.repeat_interleave(heads // x.shape[2], dim=2)


def _attend(query: Any, key: Any, value: Any, decay: Any, state: Any, beta: Any = None) -> tuple[Any, Any]:
    """Linear attention: state = exp(decay) state + key ⊗ value, result = state^T query.

    With `beta` the delta rule: what is written is beta times the value's difference from what the decayed
    state says of the key. query, key [B, S, H, K], value [B, S, H, V], decay [B, S, H] or [B, S, H, K],
    state [B, H, K, V] or None, beta [B, S, H]; gives [B, S, H, V] and the state (Yang et al., Gated Delta
    Networks).
    """
    if state is None:
        state = value.new_zeros((value.shape[0], value.shape[2], key.shape[-1], value.shape[-1]))

    def step(state: Any, now: Any) -> tuple[Any, Any]:
        q, k, v, g = now[:4]
        g = g.exp()
        state = state * (g[..., None] if g.ndim == k.ndim else g[..., None, None])
        if beta is not None:
            v = (v - (state * k[..., None]).sum(-2)) * now[4][..., None]
        state = state + k[..., None] * v[..., None, :]
        return state, (state * q[..., None]).sum(-2)

    given = [query, key, value, decay] + ([] if beta is None else [beta])
    state, made = _scan(step, state, [x.transpose(0, 1) for x in given])
    return made.transpose(0, 1), state


def _scan(step: Form, state: Any, given: list[Any]) -> tuple[Any, Any]:
    """`step` over the first axis of `given`; outside of a trace, without data, results of the right shape."""
    import torch
    from torch._higher_order_ops.scan import scan

    if torch.compiler.is_exporting():
        return scan(step, state, tuple(given))
    state, first = step(state, [x[0] for x in given])
    return state, first.expand(len(given[0]), *first.shape)


_FORMS: dict[str, Callable[[Any, dict[str, Any]], Form]] = {
    "create_recurrent_attention_mask": _padding_mask,
    "apply_mask_to_padding_states": _without_padding,
    "causal_conv1d_fn": _convolution,
    "torch_chunk_gated_delta_rule": _delta_rule,
    "chunk_kimi_delta_attention": _delta_rule,
    "mamba2_chunk_scan": _state_space,
    "mamba_selective_scan": _selective_scan,
}
