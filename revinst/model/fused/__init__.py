"""A faster forward and backward for decoder layers built as Llama's or Gemma's, on the same PEFT parameters.

`layer` is the whole layer as one autograd function, `linear` its GEMMs, `kernels` what is not a GEMM, in Triton, and
`reference` the same in plain PyTorch: the specification of the kernels, and what runs where there is no Triton.
"""
