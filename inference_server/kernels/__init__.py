"""CPU kernels of our own: the forward pass of the Llama family in C++, built once and loaded with ctypes.

The library knows nothing of Python or torch, so it needs no headers of theirs and builds in seconds. Where it is not
built or the CPU lacks AVX512-BF16, `models.llama.model` computes the same in torch.
"""
