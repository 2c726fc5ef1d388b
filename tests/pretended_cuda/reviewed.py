"""The operations of aten that the CUDA path may launch: each was looked up.

An operation that is new here must be looked up in torch's documentation of
torch.use_deterministic_algorithms, which lists those that give other bits each time, and those that
have a slower kernel which does not.
"""

_VIEWS = """
    _unsafe_view alias as_strided detach diagonal empty empty_like empty_strided expand new_empty
    permute select slice squeeze t transpose unbind unfold unsqueeze view _local_scalar_dense
"""
# Every thread computes entries of its own.
_ENTRYWISE = """
    _foreach_add _foreach_add_ _foreach_addcdiv_ _foreach_addcmul_ _foreach_copy_ _foreach_div_
    _foreach_lerp_ _foreach_mul_ _foreach_sqrt _to_copy abs add add_ addcmul arange bitwise_and
    bitwise_and_ bitwise_not bitwise_or cat clamp clone constant_pad_nd copy_ div elu
    elu_backward eq exp eye fill_ full full_like ge gt isfinite le logaddexp lt masked_fill_ mul
    nan_to_num ne
    new_zeros ones_like pixel_shuffle pixel_unshuffle reciprocal relu repeat rsub scalar_tensor
    sqrt stack sub threshold_backward where zero_ zeros zeros_like
"""
# Sums in an order that their shapes decide.
_REDUCTIONS = """
    _log_softmax _log_softmax_backward_data all amax any argmax linalg_vector_norm max mean
    native_batch_norm native_batch_norm_backward sum var
"""
# cuBLAS, with the workspace that study.trial.randomness chooses; cuDNN, told to be deterministic;
# cuSOLVER's LU.
_LIBRARIES = """
    _linalg_check_errors _linalg_solve_ex addmm baddbmm bmm convolution convolution_backward mm mv
"""
# Of one dimension of classes. That of images, nll_loss2d, is not deterministic.
_LOSS = "nll_loss_forward nll_loss_backward"
# Philox, counted by the position of an entry.
_RANDOM = "native_dropout native_dropout_backward uniform_"
# Without accumulation, into places that differ; nonzero gives them in order.
_INDEXING = "index index_put_ nonzero"

VIEWS = frozenset(_VIEWS.split())
"""They launch nothing: views, memory that is not written, and a copy of one number."""
DETERMINISTIC = frozenset(
    " ".join((_ENTRYWISE, _REDUCTIONS, _LIBRARIES, _LOSS, _RANDOM, _INDEXING)).split()
)
"""They give the same bits each time, on the same device."""
