"""A faster forward and backward for Llama's and Mistral's decoder layers, on the same PEFT parameters.

`layer` is the whole layer as one autograd function, `linear` its GEMMs, `kernels` what is not a GEMM, in Triton, and
`reference` the same in plain PyTorch: the specification of the kernels, and what runs where there is no Triton.
"""
